"""Downloads: fetched once, resumed after an interruption, verified, kept.

pooch keeps the files and checks hashes; it cannot resume, so its downloader is replaced.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ..support.files import atomic_path, sha256

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 16  # bytes; the most that a broken connection loses


def kept_folder() -> Path:
    """Where downloads are kept: the user's cache folder (``~/.cache/uturn`` on Linux)."""
    import pooch

    return Path(pooch.os_cache("uturn"))


def offline_file(folder: str, name: str) -> Path | None:
    """``$UTURN_DATA/folder/name`` if it exists: such files are never downloaded."""
    root = os.environ.get("UTURN_DATA")
    path = Path(root) / folder / name if root else None
    return path if path is not None and path.is_file() else None


class _Resuming:
    """A pooch downloader that resumes: it writes to ``<name>.part`` beside the target.

    The version of the file on the server (ETag or date) is kept beside the part; the server sends
    the rest only if it has not changed.
    """

    def __init__(self, part: Path):
        self.part, self.version = part, part.with_name(f"{part.name}.version")

    def __call__(
        self, url: str, output_file: str, pooch: object, check_only: bool = False
    ) -> bool | None:
        import requests

        if check_only:
            return requests.head(url, timeout=30, allow_redirects=True).ok
        # no compression: Content-Length and Range count bytes of the file
        headers = {"Accept-Encoding": "identity"}
        done = self._kept()
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": self._version()}
        with requests.get(url, stream=True, timeout=30, headers=headers) as answer:
            if answer.status_code == 416 or (answer.status_code == 206 and _first(answer) != done):
                self._forget()  # the part is not the beginning of this file
                return self(url, output_file, pooch)
            answer.raise_for_status()
            # Status 200: another version, or no support for ranges; the whole file is sent.
            self._write(answer, done if answer.status_code == 206 else 0)
        os.replace(self.part, output_file)
        self._forget()
        return None

    def _kept(self) -> int:
        """Bytes of the part; 0 if its version is not known."""
        if self.part.is_file() and self._version():
            return self.part.stat().st_size
        self._forget()
        return 0

    def _version(self) -> str:
        """What the server called the part; "" where that is missing or damaged."""
        if not self.version.is_file():
            return ""
        text = self.version.read_text(encoding="ascii", errors="replace").strip()
        # anything else is no header, and the request would fail every time
        return text if text.isascii() and text.isprintable() else ""

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)

    def _write(self, answer: requests.Response, done: int) -> None:
        from requests.exceptions import ConnectionError as Broken

        from ..support.progress import bar

        tag = answer.headers.get("ETag", "")
        version = answer.headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
        if not done:
            self._forget()
            if version:
                self.version.write_text(version, encoding="utf-8")
        length = answer.headers.get("Content-Length", "")
        expected = done + int(length) if length.isdigit() else None
        with (
            open(self.part, "ab" if done else "wb") as file,
            bar(expected, self.part.stem, initial=done, unit="B", unit_scale=True) as shown,
        ):
            for block in answer.iter_content(CHUNK):
                file.write(block)
                shown.update(len(block))
        if expected is not None and self.part.stat().st_size != expected:
            raise Broken(
                f"the connection broke after {self.part.stat().st_size} of {expected} bytes"
            )


def _first(answer: requests.Response) -> int | None:
    """Where a partial answer begins: ``Content-Range: bytes 100-199/200``."""
    text = answer.headers.get("Content-Range", "").removeprefix("bytes").strip().partition("-")[0]
    return int(text) if text.isdigit() else None


def fetch(
    url: str, known_hash: str | None = None, folder: Path | None = None, remedy: str = ""
) -> Path:
    """The file at ``url``, downloaded once into ``folder`` (default :func:`kept_folder`) and
    verified.

    ``known_hash`` as "md5:..." or "sha256:...", where one is published. Without one the SHA-256 of
    the first download is written beside the file and every later use is checked against it: an
    altered file is noticed, a wrong first download is not. ``remedy`` tells the reader what to do
    offline. Raises ``RuntimeError`` when the file cannot be fetched, ``ValueError`` when its hash
    is wrong.
    """
    folder = Path(folder or kept_folder())
    folder.mkdir(parents=True, exist_ok=True)
    name = url.rsplit("/", 1)[1].split("?")[0]
    # two notebooks may need the same file: the second one waits and finds it
    with FileLock(folder / f".{name}.lock"):
        return _fetch(url, known_hash, folder, name, remedy)


def _fetch(url: str, known_hash: str | None, folder: Path, name: str, remedy: str) -> Path:
    import pooch
    from requests.exceptions import RequestException

    target, note = folder / name, folder / f"{name}.sha256"
    if known_hash is None and note.is_file():
        recorded = re.match(r"[0-9a-f]{64}\b", note.read_text(encoding="utf-8", errors="replace"))
        known_hash = f"sha256:{recorded[0]}" if recorded else None
        if recorded is None:  # damaged: written again below
            note.unlink()
    try:
        path = pooch.retrieve(
            url, known_hash, fname=name, path=folder, downloader=_Resuming(folder / f"{name}.part")
        )
    except (RequestException, OSError) as error:
        kept = folder / f"{name}.part"
        so_far = (
            f" {kept.stat().st_size / 1e6:.0f} MB are kept; the next try goes on from there."
            if kept.is_file()
            else ""
        )
        raise RuntimeError(
            f"cannot download {url} ({type(error).__name__}).{so_far} {remedy}".rstrip()
        ) from error
    except ValueError as error:  # pooch: the hash does not match; it has removed the file
        raise ValueError(
            f"the download {url} has the wrong checksum, expected {known_hash}: {error}"
        ) from error
    if not note.is_file():
        with atomic_path(note) as temporary:
            temporary.write_text(f"{sha256(target)}  {name}\n", encoding="utf-8")
    return Path(path)
