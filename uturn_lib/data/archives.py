"""Image sets that come as one zip archive: the layout of NVIDIA's ``dataset_tool.py``, or folders
per class.

``imagenet-64x64.zip``, ``ffhq-64x64.zip``: images of one size in numbered folders, and
``dataset.json`` with ``{"labels": [[name, class], ...]}`` (or null). The EDM networks were trained
on archives of exactly this kind. ``images.zip``: ``train/<class>/<image>`` and
``val/<class>/<image>``.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..support.files import DAMAGED, check_unpacked, read_json
from ..support.progress import track

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# whatever a name says: Pillow goes by the content, and would start Ghostscript for EPS
FORMATS = ("PNG", "JPEG", "WEBP")
MOST_CLASSES = 100_000
# archives without a validation set: every 26th image of a class is held out, 50 of 1,300
HELD_OUT = 26


@dataclass(frozen=True)
class Listing:
    """Members of an archive with their classes, numbered from 0.

    ``class_names`` in that order; ``seen``: held-out images were part of the published training
    set.
    """

    path: Path
    members: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    seen: bool = False


def list_split(folder: Path, name: str, split: str, remedy: str) -> Listing:
    """Members of ``split`` ("train" or "test") of the set whose archives lie in ``folder``.

    The archives are ``<name>.zip`` and, if present, ``<name>-val.zip``; else ``images.zip``. Raises
    ``FileNotFoundError`` with ``remedy`` if there is none, ``ValueError`` for another layout.
    """
    whole, apart, tree = folder / f"{name}.zip", folder / f"{name}-val.zip", folder / "images.zip"
    if whole.is_file():
        if apart.is_file():
            return _numbered(apart if split == "test" else whole)
        return _divided(_numbered(whole), split)
    if tree.is_file():
        return _by_class(tree, split)
    raise FileNotFoundError(f"no {whole}: {remedy}")


def _open(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as error:
        raise ValueError(f"{path} is damaged or no zip archive: {error}") from error
    try:
        check_unpacked(archive)
    except ValueError as error:
        archive.close()
        raise ValueError(f"{path} is refused: {error}") from error
    return archive


def _images(names: list[str]) -> list[str]:
    found = (name for name in names if name.lower().endswith(SUFFIXES))
    return sorted(
        name
        for name in found
        if not name.startswith("__MACOSX/") and not PurePosixPath(name).name.startswith("._")
    )


def _numbered(path: Path) -> Listing:
    with _open(path) as archive:
        members = _images(archive.namelist())
        classes = _listed_classes(archive, path)
    listed = bool(classes)
    missing = [name for name in members if listed and name not in classes]
    if missing or not members:
        raise ValueError(
            f"{path}: "
            f"{f'dataset.json has no class for {missing[0]}' if missing else 'no images in it'}"
        )
    labels = tuple(classes.get(name, 0) for name in members)
    names = tuple(f"class {k}" for k in range(max(labels) + 1)) if listed else ("image",)
    return Listing(path, tuple(members), labels, names)


def _listed_classes(archive: zipfile.ZipFile, path: Path) -> dict[str, int]:
    """Name -> class from dataset.json, empty where it lists none."""
    if "dataset.json" not in archive.namelist():
        return {}
    try:
        listed = json.loads(archive.read("dataset.json"))["labels"] or []
        pairs = [(name, label) for name, label in listed]
        if not all(
            isinstance(name, str) and type(label) is int and 0 <= label < MOST_CLASSES
            for name, label in pairs
        ):
            raise ValueError(
                f"labels must be pairs of a name and a number from 0 to {MOST_CLASSES - 1}"
            )
    except (*DAMAGED, OSError) as error:
        raise ValueError(f"{path}: dataset.json is damaged: {error}") from error
    return dict(pairs)


def _divided(listing: Listing, split: str) -> Listing:
    """Every 26th image of each class, in the archive's order, is held out."""
    turn: dict[int, int] = {}
    chosen = []
    for index, label in enumerate(listing.labels):
        turn[label] = turn.get(label, 0) + 1
        if (turn[label] % HELD_OUT == 0) == (split == "test"):
            chosen.append(index)
    if not chosen:
        raise ValueError(
            f"{listing.path}: fewer than {HELD_OUT} images of each class, none can be held out"
        )
    members = tuple(listing.members[i] for i in chosen)
    labels = tuple(listing.labels[i] for i in chosen)
    return Listing(listing.path, members, labels, listing.class_names, seen=True)


def _by_class(path: Path, split: str) -> Listing:
    prefix = "val" if split == "test" else "train"
    with _open(path) as archive:
        members = [name for name in _images(archive.namelist()) if name.startswith(f"{prefix}/")]
    folders = [PurePosixPath(name).parts[1] for name in members]
    if not members or any(len(PurePosixPath(name).parts) < 3 for name in members):
        raise ValueError(f"{path}: {prefix}/<class>/<image> is expected")
    order = sorted(set(folders))
    beside = path.with_name("classes.json")
    names = read_json(beside) if beside.is_file() else {}
    if not isinstance(names, dict):
        raise ValueError(f"{beside} must map folders to the names of their classes")
    labels = tuple(order.index(folder) for folder in folders)
    return Listing(
        path, tuple(members), labels, tuple(str(names.get(folder, folder)) for folder in order)
    )


def choose(listing: Listing, most: int) -> np.ndarray:
    """Indices of at most ``most`` members, classes balanced, ordered by a hash of their names."""
    keys = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in listing.members]
    shuffled = sorted(range(len(keys)), key=keys.__getitem__)
    turn, ranked = [0] * len(listing.class_names), []
    for index in shuffled:  # 1st, 2nd, ... of its class
        ranked.append((turn[listing.labels[index]], index))
        turn[listing.labels[index]] += 1
    return np.array([index for _, index in sorted(ranked, key=lambda pair: pair[0])[:most]])


def read_images(listing: Listing, indices: np.ndarray, size: int) -> np.ndarray:
    """Pixels (N, size, size, 3), uint8, of the members at ``indices``.

    Raises ``ValueError`` for a damaged image or one of another size.
    """
    from PIL import Image

    pixels = np.empty((len(indices), size, size, 3), dtype=np.uint8)
    with _open(listing.path) as archive:
        for row, index in enumerate(track(indices.tolist(), f"reading {listing.path.name}")):
            name = listing.members[index]
            try:
                with archive.open(name) as file, Image.open(file, formats=FORMATS) as image:
                    found = image.size
                    if found == (size, size):  # before anything is decoded
                        pixels[row] = np.asarray(image.convert("RGB"))
            except (*DAMAGED, Image.DecompressionBombError, OSError) as error:
                raise ValueError(
                    f"{listing.path}: {name} is damaged or cannot be read: {error}"
                ) from error
            if found != (size, size):
                raise ValueError(
                    f"{listing.path}: {name} is {found[0]} x {found[1]}, {size} x {size} is needed"
                )
    return pixels


def digest(pixels: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 over pixels and labels in their order."""
    found = hashlib.sha256(np.ascontiguousarray(pixels).data)
    found.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return found.hexdigest()
