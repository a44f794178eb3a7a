"""Files from elsewhere: fetched once, continued after an interruption, verified, kept.

pooch keeps the files and checks their hashes; it cannot continue a download that broke off, so its downloader is replaced by one that can.
"""

from __future__ import annotations

import os
from pathlib import Path

from .files import atomic_path, sha256

CHUNK = 1 << 16  # what a broken connection loses at most


def kept_folder() -> Path:
    """Where downloads are kept: the user's cache folder (``~/.cache/uturn`` on Linux)."""
    import pooch

    return Path(pooch.os_cache("uturn"))


def offline_file(folder: str, name: str) -> Path | None:
    """``$UTURN_DATA/folder/name`` where it exists: what was put there by hand is never downloaded."""
    root = os.environ.get("UTURN_DATA")
    path = Path(root) / folder / name if root else None
    return path if path is not None and path.is_file() else None


class _Resuming:
    """A downloader for pooch that writes to ``<name>.part`` beside the target and goes on where an earlier try has stopped."""

    def __init__(self, part: Path):
        self.part = part

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> bool | None:
        import requests

        if check_only:
            return requests.head(url, timeout=30, allow_redirects=True).ok
        done = self.part.stat().st_size if self.part.is_file() else 0
        headers = {"Range": f"bytes={done}-"} if done else {}
        with requests.get(url, stream=True, timeout=30, headers=headers) as answer:
            if answer.status_code == 416:  # no such range: all of it is here already, or the part is of another file
                if _length(answer) == done:
                    return self._hand_over(output_file)
                self.part.unlink()
                return self(url, output_file, pooch)
            answer.raise_for_status()
            # A server that ignores the request for a range sends all of it, with status 200: then from the beginning.
            self._write(answer, done if answer.status_code == 206 else 0)
        return self._hand_over(output_file)

    def _write(self, answer: object, done: int) -> None:
        from requests.exceptions import ConnectionError as Broken

        from .progress import bar

        expected = done + int(answer.headers.get("Content-Length", 0))
        whole = "Content-Length" in answer.headers and "Content-Encoding" not in answer.headers
        with (
            open(self.part, "ab" if done else "wb") as file,
            bar(expected if whole else None, self.part.stem, initial=done, unit="B", unit_scale=True) as shown,
        ):
            for block in answer.iter_content(CHUNK):
                file.write(block)
                shown.update(len(block))
        if whole and self.part.stat().st_size != expected:
            raise Broken(f"the connection broke after {self.part.stat().st_size} of {expected} bytes")

    def _hand_over(self, output_file: str) -> None:
        os.replace(self.part, output_file)


def _length(answer: object) -> int | None:
    """The full length that a "range not satisfiable" answer states: ``Content-Range: bytes */123``."""
    text = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdigit() else None


def fetch(url: str, known_hash: str | None = None, folder: Path | None = None, remedy: str = "") -> Path:
    """The file at ``url``, downloaded once into ``folder`` (default :func:`kept_folder`) and verified.

    ``known_hash`` as "md5:..." or "sha256:...", where one is published. Without one the SHA-256 of the first download is written beside the file and every
    later use is checked against it: an altered file is noticed, a wrong first download is not. ``remedy`` tells the reader what to do offline.
    Raises ``RuntimeError`` when the file cannot be fetched, ``ValueError`` when its hash is wrong.
    """
    import pooch
    from requests.exceptions import RequestException

    folder = Path(folder or kept_folder())
    folder.mkdir(parents=True, exist_ok=True)
    name = url.rsplit("/", 1)[1].split("?")[0]
    target, note = folder / name, folder / f"{name}.sha256"
    if known_hash is None and note.is_file():
        known_hash = f"sha256:{note.read_text(encoding='utf-8').split()[0]}"
    try:
        path = pooch.retrieve(url, known_hash, fname=name, path=folder, downloader=_Resuming(folder / f"{name}.part"))
    except (RequestException, OSError) as error:
        kept = folder / f"{name}.part"
        so_far = (
            f" {kept.stat().st_size / 1e6:.0f} MB are kept; the next try goes on from there." if kept.is_file() else ""
        )
        raise RuntimeError(f"cannot download {url} ({type(error).__name__}).{so_far} {remedy}".rstrip()) from error
    except ValueError as error:  # pooch: the hash does not match; it has removed the file
        raise ValueError(f"the download {url} has the wrong checksum, expected {known_hash}: {error}") from error
    if not note.is_file():
        with atomic_path(note) as temporary:
            temporary.write_text(f"{sha256(target)}  {name}\n", encoding="utf-8")
    return Path(path)
