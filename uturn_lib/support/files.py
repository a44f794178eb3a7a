"""Writing files whole or not at all: a temporary name beside the target, then one rename."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


# What reading a damaged or hostile file may provoke, whatever its format.
DAMAGED = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,  # also RecursionError and NotImplementedError
    ArithmeticError,
    MemoryError,
    SyntaxError,  # numpy and Pillow parse headers
    NameError,  # diffusers, for some values of its configuration
    AssertionError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    pickle.UnpicklingError,
)


@contextmanager
def atomic_path(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path with the suffix of ``path``; it becomes ``path`` only if the block
    succeeds.

    ``durable``: the content is on the disk before the name is, so that a power cut leaves the old
    file or the new one. Files that are checked when read, and can be made again, do without.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp's 0600 would hide results from the other users of a shared machine
        temporary.chmod(0o644)
        if durable:
            _synchronise(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


UNPACKED_TIMES, UNPACKED_BYTES = 20, 1 << 24  # images and arrays shrink less than that


def check_unpacked(archive: zipfile.ZipFile) -> None:
    """``ValueError`` for a decompression bomb: an archive that claims to unpack to more than 16 MiB
    and 20 times its packed size.

    Python reads no more of a member than it claims.
    """
    packed = sum(member.compress_size for member in archive.infolist())
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(UNPACKED_BYTES, UNPACKED_TIMES * packed):
        raise ValueError(f"it would unpack to {unpacked:,} bytes from {packed:,}")


def _synchronise(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_text(path: str | Path, text: str) -> None:
    """Write ``text``, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON; a damaged file is a ``ValueError`` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not even text
        raise ValueError(f"{path} is damaged: it is not complete JSON ({error})") from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read TOML; a damaged file is a ``ValueError`` that names it."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, or not even text
        raise ValueError(f"{path} is damaged: it is not complete TOML ({error})") from error


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
