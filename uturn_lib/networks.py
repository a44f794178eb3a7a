"""Trained U-Nets behind the denoiser interface, the digit classifier, and checkpoints that run no code.

A checkpoint is a folder with ``config.json`` (the diffusers configuration of the U-Net, plus our section ``uturn``),
``diffusion_pytorch_model.safetensors`` and a model card ``README.md``. Only JSON and tensors are ever read.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from .data.downloads import fetch, kept_folder
from .denoisers import per_sample
from .support import checks
from .support.files import atomic_path, read_json, sha256, write_json
from .support.places import CHECKPOINTS

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

WEIGHTS = "diffusion_pytorch_model.safetensors"
SIGMA_RANGE = (0.0, 80.0)


class NetworkDenoiser(nn.Module):
    """A trained U-Net behind the denoiser interface: what all kinds of them share. They differ in :meth:`denoise`.

    ``sample_shape`` (C, H, W) of images in [-1, 1]; ``num_classes``, 0 for none; ``sigma_range``: the noise levels the network was made for. Sigma = 0 is
    always allowed and returns ``x``.
    """

    value_range = (-1.0, 1.0)
    needs_labels = False  # whether it has classes and no null class

    def __init__(
        self, unet: nn.Module, sample_shape: tuple[int, ...], num_classes: int, sigma_range: tuple[float, float]
    ):
        super().__init__()
        self.unet = unet
        self.sample_shape = tuple(sample_shape)
        self.num_classes = num_classes
        self.sigma_range = tuple(sigma_range)
        self.fingerprint: str | None = None  # known once it is saved and loaded
        # Of the U-Net's products, where it differs from its weights (accelerate).
        self.precision: torch.dtype | None = None

    def forward(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        """Denoise ``x`` (B, C, H, W) at noise level ``sigma`` (float or (B,)); ``labels`` (B,) or None for the null class.

        Returns E[x_0 | x] with the shape, dtype and device of ``x``; ``sigma`` = 0 returns ``x``.
        Raises ``ValueError`` for wrong shapes, labels, or a sigma outside the network's range.
        """
        checks.samples("x", x, self.sample_shape)
        labels = checks.labels(labels, len(x), self.num_classes, self.needs_labels)
        labels = None if labels is None else labels.to(x.device)
        return self.denoise(x, self._noise_levels(x, sigma), labels)

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """The formula itself, without checks: ``sigma`` (B, 1, 1, 1) in the dtype of ``x``."""
        raise NotImplementedError

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest noise level at which the network was trained: ``sigma`` itself, unless it knows only discrete ones."""
        return torch.as_tensor(sigma)

    def at_precision(self, device: torch.device) -> AbstractContextManager:
        """The U-Net's own precision; without one it leaves an autocast around it (training on a GPU) as it is."""
        return nullcontext() if self.precision is None else torch.autocast(device.type, self.precision)

    def _noise_levels(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        sigma = per_sample(sigma, x)
        low, high = self.sigma_range
        inside = sigma.isfinite() & (sigma <= high * (1 + 1e-6)) & ((sigma >= low * (1 - 1e-6)) | (sigma == 0))
        if len(x) and not bool(inside.all()):
            raise ValueError(
                f"sigma in [{float(sigma.min()):g}, {float(sigma.max()):g}] leaves the range of this "
                f"network, [{low:g}, {high:g}]"
            )
        return sigma.expand(len(x), 1, 1, 1)


class EDMDenoiser(NetworkDenoiser):
    """A diffusers ``UNet2DModel`` F under the preconditioning of Karras et al. (2022), Table 1:

    ``D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`` with ``c_skip = s_d^2 / (sigma^2 + s_d^2)``,
    ``c_out = sigma s_d / sqrt(sigma^2 + s_d^2)``, ``c_in = 1 / sqrt(sigma^2 + s_d^2)``, ``c_noise = ln(sigma) / 4``.

    One network serves two uses: with ``labels`` it is class-conditional, without them it gets the null class that it
    met in training through label dropout. Pixels are unshuffled by ``unshuffle`` so that the U-Net works on a
    smaller grid with more channels, which costs far less on a CPU.

    Parameters
    ----------
    unet: U-Net on (B, C * unshuffle^2, H / unshuffle, W / unshuffle).
    sample_shape: (C, H, W) of the images, which are scaled to [-1, 1].
    num_classes: number of classes, 0 for an unconditional network.
    sigma_data: standard deviation s_d of the data.
    noise_scale: the U-Net's sinusoidal embedding sees ``noise_scale * c_noise``: the embedding was designed for
        time steps of 0 to 1000, while c_noise spans less than 3.
    """

    def __init__(
        self,
        unet: nn.Module,
        sample_shape: tuple[int, int, int],
        num_classes: int = 0,
        sigma_data: float = 0.5,
        unshuffle: int = 1,
        noise_scale: float = 100.0,
        sigma_range: tuple[float, float] = SIGMA_RANGE,
    ):
        super().__init__(unet, sample_shape, num_classes, sigma_range)
        self.sigma_data = sigma_data
        self.unshuffle = unshuffle
        self.noise_scale = noise_scale

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """The formula itself, without checks: ``sigma`` (B, 1, 1, 1) in the dtype of ``x`` (used in training)."""
        variance = sigma**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / variance
        c_out = sigma * self.sigma_data / variance.sqrt()
        c_noise = sigma.clamp(min=1e-20).log() / 4
        output = self.raw(x / variance.sqrt(), c_noise.flatten(), labels)
        # Combined in the precision of x: a float64 sampler state keeps its digits around a float32 network.
        return c_skip * x + c_out * output.to(x.dtype)

    def raw(self, scaled: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The bare network F(c_in x, c_noise) in its own precision; (B, C, H, W) -> (B, C, H, W)."""
        dtype = next(self.unet.parameters()).dtype
        if self.num_classes and labels is None:
            labels = torch.full((len(scaled),), self.num_classes, device=scaled.device)
        patches = F.pixel_unshuffle(scaled.to(dtype), self.unshuffle).contiguous(memory_format=torch.channels_last)
        embedded = (self.noise_scale * c_noise).to(dtype)
        with self.at_precision(scaled.device):
            output = self.unet(patches, embedded, class_labels=labels).sample
        return F.pixel_shuffle(output.to(dtype), self.unshuffle)

    def config(self) -> dict[str, Any]:
        """What is needed to build the same network again (JSON types only)."""
        return {
            "architecture": "EDMDenoiser",
            "sample_shape": list(self.sample_shape),
            "num_classes": self.num_classes,
            "sigma_data": self.sigma_data,
            "unshuffle": self.unshuffle,
            "noise_scale": self.noise_scale,
            "sigma_range": list(self.sigma_range),
        }


def make_unet(sample_shape: tuple[int, int, int], num_classes: int, unshuffle: int, **unet: Any) -> nn.Module:
    """A diffusers ``UNet2DModel`` for images of ``sample_shape``, with one class more (the null class) if any."""
    from diffusers import UNet2DModel

    channels, height, _ = sample_shape
    channels = channels * unshuffle**2
    return UNet2DModel(
        sample_size=height // unshuffle,
        in_channels=channels,
        out_channels=channels,
        num_class_embeds=num_classes + 1 if num_classes else None,
        **unet,
    )


def save_denoiser(
    denoiser: EDMDenoiser,
    folder: str | Path,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write config.json and safetensors weights; ``training`` (recipe, duration, ...) is kept in the configuration.

    ``dtype`` is that of the file: float16 halves it; loaded again, the weights are float32. Raises ``ValueError`` where a weight does not fit into it.
    """
    folder = Path(folder)
    weights = folder / WEIGHTS
    state = {name: value.detach().cpu().to(dtype).contiguous() for name, value in denoiser.unet.state_dict().items()}
    lost = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if lost:
        raise ValueError(f"dtype = {dtype}: {lost[0]} has values that it cannot hold")
    with atomic_path(weights) as temporary:
        save_file(state, str(temporary), metadata={"format": "pt"})
    unet = {key: value for key, value in denoiser.unet.config.items() if key != "_name_or_path"}
    section = denoiser.config() | {"weights_sha256": sha256(weights), "training": training or {}}
    write_json(folder / "config.json", {"_class_name": "UNet2DModel", **unet, "uturn": section})


def load_denoiser(name_or_path: str | Path, device: str | torch.device | None = None) -> NetworkDenoiser:
    """Load a denoiser: a shipped checkpoint by name ("mnist"), a local folder, a hub id ("owner/name"), or an EDM file by path or published name
    ("edm-cifar10-32x32-uncond-vp.pkl").

    A folder or hub repository is one of ours, one that ``pretrained.convert`` has written, or a diffusers ``UNet2DModel`` with its DDPM-type scheduler.
    Opening any of them runs no code from it. Returns the network in evaluation mode on ``device`` (default: cuda when present, else cpu).
    Raises ``FileNotFoundError`` when there is no such checkpoint or a file is missing, ``ValueError`` when the weights
    are truncated, do not match their recorded SHA-256 or do not fit the configuration, ``RuntimeError`` when a download fails.
    """
    from .pretrained import load_foreign  # which builds on this module

    device = checks.pick_device(device)
    folder = None if is_edm_file(name_or_path) else find_checkpoint(name_or_path)
    foreign = load_foreign(name_or_path, folder, device)
    if foreign is not None:
        return foreign
    config, state = read_checkpoint(folder, WEIGHTS, "EDMDenoiser")
    section = config["uturn"]
    from diffusers import UNet2DModel

    unet = UNet2DModel(**{key: value for key, value in config.items() if not key.startswith("_") and key != "uturn"})
    denoiser = EDMDenoiser(
        unet,
        tuple(section["sample_shape"]),
        section["num_classes"],
        section["sigma_data"],
        section["unshuffle"],
        section["noise_scale"],
        tuple(section["sigma_range"]),
    )
    load_weights(unet, state, folder)
    denoiser.fingerprint = checkpoint_fingerprint(config)
    return freeze(denoiser, device)


def is_edm_file(name_or_path: str | Path) -> bool:
    """Whether it names a pickled EDM network rather than a folder."""
    return str(name_or_path).endswith(".pkl") and not Path(name_or_path).is_dir()


def accelerate(
    denoiser: NetworkDenoiser, precision: torch.dtype = torch.bfloat16, compiled: bool = True
) -> NetworkDenoiser:
    """The same denoiser for a GPU, in place: matrix products of the U-Net in ``precision``, the U-Net compiled.

    Weights, preconditioning and the sampler's state keep their precision; only F in ``D = c_skip x + c_out F`` is rounded, to about 0.4 %. The fingerprint says so:
    its results are not those of the denoiser in float32. Raises ``ValueError`` for another precision than bfloat16 or float16.
    """
    checks.one_of("precision", precision, (torch.bfloat16, torch.float16))
    denoiser.precision = precision
    if denoiser.fingerprint is not None:
        denoiser.fingerprint = accelerated_fingerprint(denoiser.fingerprint, precision)
    if compiled:
        denoiser.unet.compile()
    return denoiser


def accelerated_fingerprint(fingerprint: str, precision: torch.dtype = torch.bfloat16) -> str:
    """The fingerprint that :func:`accelerate` gives to the denoiser of ``fingerprint``."""
    return f"{fingerprint} in {str(precision).removeprefix('torch.')}"


def checkpoint_fingerprint(config: dict[str, Any]) -> str:
    """SHA-256 of all that decides the function: the weights (by their own SHA-256), the U-Net's and our configuration."""
    decisive = {key: value for key, value in config.items() if key not in ("uturn", "_diffusers_version")}
    decisive["uturn"] = {key: value for key, value in config["uturn"].items() if key != "training"}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def shipped_fingerprint(name_or_path: str | Path) -> str:
    """The fingerprint of a checkpoint from its configuration (of files from elsewhere: their SHA-256): the network is not built."""
    from .pretrained import foreign_fingerprint

    folder = None if is_edm_file(name_or_path) else find_checkpoint(name_or_path)
    return foreign_fingerprint(name_or_path, folder)


# What is fetched of a hub repository: no code, and no other parts of a pipeline.
HUB_FILES = ("README.md", "config.json", "model_index.json", "scheduler_config.json", "unet/config.json", "scheduler/scheduler_config.json")  # fmt: skip
HUB_WEIGHTS = ("diffusion_pytorch_model", "model", "unet/diffusion_pytorch_model")


def find_checkpoint(name_or_path: str | Path) -> Path:
    """The folder of a checkpoint; a hub id is downloaded (JSON, weights and card only), or found among earlier downloads."""
    text = str(name_or_path)
    for folder in (CHECKPOINTS / text, Path(text)):
        if any((folder / name).is_file() for name in ("config.json", "model_index.json", "unet/config.json")):
            return folder
    shipped = sorted(path.parent.name for path in CHECKPOINTS.glob("*/config.json"))
    allowed = f"a shipped checkpoint ({', '.join(shipped) or 'none yet'}), a folder with config.json, a hub id owner/name, or an EDM file *.pkl"
    if text.count("/") != 1 or text.startswith((".", "/")) or Path(text).exists():
        raise FileNotFoundError(f"no checkpoint {text!r}: allowed is {allowed}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(text, allow_patterns=[*HUB_FILES, *(f"{name}.safetensors" for name in HUB_WEIGHTS)])
        )
        if not any(folder.rglob("*.safetensors")):  # older repositories; opened as bare weights
            folder = Path(
                snapshot_download(text, allow_patterns=[*HUB_FILES, *(f"{name}.bin" for name in HUB_WEIGHTS)])
            )
        return folder
    except Exception as error:  # the hub raises a dozen kinds; each means that nothing could be fetched
        offline = isinstance(error, LocalEntryNotFoundError)
        remedy = f"; offline: get the files of {text} by other means into a folder and give its path" if offline else ""
        raise FileNotFoundError(
            f"no checkpoint {text!r}: allowed is {allowed}; the hub answered: {type(error).__name__}{remedy}"
        ) from error


def shipped_weights(name: str, weights: str, expected: str) -> Path:
    """The weights of a shipped checkpoint that are too large for the wheel: fetched once, with the SHA-256 that its config.json records.

    ``$UTURN_CHECKPOINTS_URL`` says where the repository's folder checkpoints/ is: an address, or a folder. Raises ``FileNotFoundError`` without it,
    and as ``downloads.fetch``.
    """
    source = os.environ.get("UTURN_CHECKPOINTS_URL")
    remedy = (
        f"Set UTURN_CHECKPOINTS_URL to the address of the repository's folder checkpoints/, or to a folder that holds {name}/{weights}, "
        "or give the path of a whole checkpoint"
    )
    if not source:
        raise FileNotFoundError(f"the weights of {name!r} are too large for the installed package. {remedy}")
    if Path(source).is_dir():
        return Path(source) / name / weights
    url = f"{source.rstrip('/')}/{name}/{weights}"
    return fetch(url, f"sha256:{expected}", kept_folder() / "checkpoints" / name, remedy)


def read_checkpoint(folder: Path, weights: str, architecture: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read config.json and the safetensors file of ``folder`` and verify them against each other."""
    config = read_json(folder / "config.json")
    section = config.get("uturn") if isinstance(config, dict) else None
    found = section.get("architecture") if isinstance(section, dict) else None
    if found != architecture:
        raise ValueError(
            f"{folder}/config.json describes {found or 'no model of ours'}, not the {architecture} asked for"
        )
    path, expected = folder / weights, str(section.get("weights_sha256"))
    if not path.is_file() and folder.parent == CHECKPOINTS:
        path = shipped_weights(folder.name, weights, expected)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {folder} lacks {weights}")
    actual = sha256(path)
    if actual != expected:
        raise ValueError(
            f"{path} is truncated or altered: its SHA-256 is {actual[:16]}..., config.json records {expected[:16]}..."
        )
    try:
        return config, load_file(str(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error


def load_weights(module: nn.Module, state: dict[str, Tensor], folder: Path, assign: bool = False) -> None:
    """Copy ``state`` into ``module``, or with ``assign`` let the module take over its tensors; names and shapes must match exactly."""
    try:
        module.load_state_dict(state, strict=True, assign=assign)
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit its config.json: {error}") from error


def freeze(module: nn.Module, device: torch.device) -> Any:
    """Evaluation mode, no gradients, channels-last (faster convolutions on CPU and GPU), on ``device``."""
    return module.eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)


# ----------------------------------------------------------------------------------------------- classifier


class Classifier(nn.Module):
    """A small convolutional classifier: class retention needs its decision, quality distances may use its features.

    ``forward(images)`` (B, C, H, W) in [-1, 1] -> logits (B, num_classes); ``features`` -> (B, width), the input of
    the last layer. ``body`` is "separable" (few products, for digits) or "dense" (for photographs).
    """

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        num_classes: int,
        channels: tuple[int, ...] = (24, 48, 96),
        width: int = 64,
        body: str = "separable",
    ):
        super().__init__()
        checks.one_of("body", body, BODIES)
        self.sample_shape, self.num_classes = tuple(sample_shape), num_classes
        self.channels, self.width, self.kind = tuple(channels), width, body
        layers, inputs = BODIES[body](sample_shape, self.channels)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(inputs, width))
        self.head = nn.Linear(width, num_classes)
        self.fingerprint: str | None = None

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width), float32, after the last rectifier."""
        checks.samples("images", images, self.sample_shape)
        return F.relu(self.body(images.float()))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 512) -> Tensor:
        """Most likely class (N,) of images (N, C, H, W)."""
        device = self.head.weight.device
        return torch.cat([self(batch.to(device)).argmax(1).cpu() for batch in images.split(batch_size)])

    @torch.no_grad()
    def extract(self, images: Tensor, batch_size: int = 512) -> Tensor:
        """Features (N, width) of images (N, C, H, W), batch by batch."""
        device = self.head.weight.device
        return torch.cat([self.features(batch.to(device)).cpu() for batch in images.split(batch_size)])


def _separable(sample_shape: tuple[int, int, int], channels: tuple[int, ...]) -> tuple[list[nn.Module], int]:
    """Pairs of a full and a channel-wise convolution, and the number of values they end in."""
    layers: list[nn.Module] = []
    for before, after in zip((sample_shape[0], *channels), channels, strict=False):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, groups=after, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return layers, channels[-1] * (sample_shape[1] // 2 ** len(channels)) ** 2


def _dense(sample_shape: tuple[int, int, int], channels: tuple[int, ...]) -> tuple[list[nn.Module], int]:
    """A stem of 2 x 2 patches, then two convolutions per resolution; the last map is reduced to its maxima."""
    stem, *rest = channels
    layers: list[nn.Module] = [nn.Conv2d(sample_shape[0], stem, 2, bias=False), nn.BatchNorm2d(stem), nn.GELU()]
    for before, after in zip(channels, rest, strict=False):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(after),
            nn.GELU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.GELU(),
        ]
    return [*layers, nn.AdaptiveMaxPool2d(1)], channels[-1]


BODIES = {"separable": _separable, "dense": _dense}


def save_classifier(classifier: Classifier, folder: str | Path, training: dict[str, Any] | None = None) -> None:
    """Write config.json and model.safetensors."""
    folder = Path(folder)
    weights = folder / "model.safetensors"
    with atomic_path(weights) as temporary:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in classifier.state_dict().items()}, str(temporary)
        )
    section = {
        "architecture": "Classifier",
        "sample_shape": list(classifier.sample_shape),
        "num_classes": classifier.num_classes,
        "channels": list(classifier.channels),
        "width": classifier.width,
        "body": classifier.kind,
        "weights_sha256": sha256(weights),
        "training": training or {},
    }
    write_json(folder / "config.json", {"uturn": section})


def load_classifier(name_or_path: str | Path, device: str | torch.device | None = None) -> Classifier:
    """Load a shipped classifier ("mnist-classifier") or one in a local folder; errors as ``load_denoiser``."""
    device = checks.pick_device(device)
    folder = find_checkpoint(name_or_path)
    config, state = read_checkpoint(folder, "model.safetensors", "Classifier")
    section = config["uturn"]
    classifier = Classifier(
        tuple(section["sample_shape"]),
        section["num_classes"],
        tuple(section["channels"]),
        section["width"],
        section.get("body", "separable"),
    )
    load_weights(classifier, state, folder)
    classifier.fingerprint = checkpoint_fingerprint(config)
    return freeze(classifier, device)
