"""Image sets that come as one zip archive: the layout of NVIDIA's ``dataset_tool.py``, or folders per class.

``imagenet-64x64.zip``, ``ffhq-64x64.zip``: images of one size in numbered folders, and ``dataset.json`` with ``{"labels": [[name, class], ...]}`` (or null). The EDM
networks were trained on archives of exactly this kind. ``images.zip``: ``train/<class>/<image>`` and ``val/<class>/<image>``.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from .progress import track

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
HELD_OUT = 26  # without images of their own to hold out: every 26th of a class, some 50 of ImageNet's 1,300


@dataclass(frozen=True)
class Listing:
    """Members of an archive with their classes, numbered from 0; ``class_names`` in that order; ``seen``: held-out images were part of the published training set."""

    path: Path
    members: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    seen: bool = False


def list_split(folder: Path, name: str, split: str, remedy: str) -> Listing:
    """What belongs to ``split`` ("train" or "test") of the set whose archives lie in ``folder``: ``<name>.zip`` and perhaps ``<name>-val.zip``, else ``images.zip``.

    Raises ``FileNotFoundError`` with ``remedy`` when there is none, ``ValueError`` for an archive of another layout.
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
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged or no zip archive: {error}") from error


def _images(names: list[str]) -> list[str]:
    return sorted(name for name in names if name.lower().endswith(SUFFIXES))


def _numbered(path: Path) -> Listing:
    with _open(path) as archive:
        members = _images(archive.namelist())
        listed = None
        if "dataset.json" in archive.namelist():
            try:
                listed = json.loads(archive.read("dataset.json")).get("labels")
            except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
                raise ValueError(f"{path}: dataset.json is damaged: {error}") from error
    classes = {str(name): int(label) for name, label in listed or ()}
    missing = [name for name in members if listed and name not in classes]
    if missing or not members:
        raise ValueError(f"{path}: {f'dataset.json has no class for {missing[0]}' if missing else 'no images in it'}")
    labels = tuple(classes.get(name, 0) for name in members)
    names = tuple(f"class {k}" for k in range(max(labels) + 1)) if listed else ("image",)
    return Listing(path, tuple(members), labels, names)


def _divided(listing: Listing, split: str) -> Listing:
    """Every 26th image of each class, in the archive's order, is held out."""
    turn: dict[int, int] = {}
    chosen = []
    for index, label in enumerate(listing.labels):
        turn[label] = turn.get(label, 0) + 1
        if (turn[label] % HELD_OUT == 0) == (split == "test"):
            chosen.append(index)
    if not chosen:
        raise ValueError(f"{listing.path}: fewer than {HELD_OUT} images of each class, none can be held out")
    members, labels = (tuple(values[i] for i in chosen) for values in (listing.members, listing.labels))
    return Listing(listing.path, members, labels, listing.class_names, seen=True)


def _by_class(path: Path, split: str) -> Listing:
    prefix = "val" if split == "test" else "train"
    with _open(path) as archive:
        members = [name for name in _images(archive.namelist()) if name.startswith(f"{prefix}/")]
    folders = [PurePosixPath(name).parts[1] for name in members]
    if not members or any(len(PurePosixPath(name).parts) < 3 for name in members):
        raise ValueError(f"{path}: {prefix}/<class>/<image> is expected")
    order = sorted(set(folders))
    names, beside = {}, path.with_name("classes.json")
    if beside.is_file():
        names = json.loads(beside.read_text(encoding="utf-8"))
    labels = tuple(order.index(folder) for folder in folders)
    return Listing(path, tuple(members), labels, tuple(str(names.get(folder, folder)) for folder in order))


def choose(listing: Listing, most: int) -> np.ndarray:
    """Indices of at most ``most`` members, classes as equal as can be, in an order fixed by the members' names."""
    keys = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in listing.members]
    shuffled = sorted(range(len(keys)), key=keys.__getitem__)
    turn, ranked = [0] * len(listing.class_names), []
    for index in shuffled:  # 1st, 2nd, ... of its class
        ranked.append((turn[listing.labels[index]], index))
        turn[listing.labels[index]] += 1
    return np.array([index for _, index in sorted(ranked, key=lambda pair: pair[0])[:most]])


def read_images(listing: Listing, indices: np.ndarray, size: int) -> np.ndarray:
    """Pixels (N, size, size, 3) uint8 of the members at ``indices``. Raises ``ValueError`` for an image of another size or one that is damaged."""
    from PIL import Image, UnidentifiedImageError

    pixels = np.empty((len(indices), size, size, 3), dtype=np.uint8)
    with _open(listing.path) as archive:
        for row, index in enumerate(track(indices.tolist(), f"reading {listing.path.name}")):
            name = listing.members[index]
            try:
                with archive.open(name) as file, Image.open(file) as image:
                    found = np.asarray(image.convert("RGB"))
            except (UnidentifiedImageError, zipfile.BadZipFile, OSError) as error:
                raise ValueError(f"{listing.path}: {name} is damaged: {error}") from error
            if found.shape != (size, size, 3):
                raise ValueError(
                    f"{listing.path}: {name} is {found.shape[1]} x {found.shape[0]}, {size} x {size} is needed"
                )
            pixels[row] = found
    return pixels


def digest(pixels: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 over pixels and labels in their order."""
    found = hashlib.sha256(np.ascontiguousarray(pixels))
    found.update(np.ascontiguousarray(labels, dtype="<i8"))
    return found.hexdigest()
