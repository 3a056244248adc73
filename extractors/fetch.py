"""Downloading weight files: resumed after a break, shown while it goes on, verified at the end."""

from __future__ import annotations

import fcntl
import functools
import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pooch

from extractors.weight_files import WeightFile
from pipeline.errors import WeightsError
from pipeline.progress import Progress
from pipeline.storage import file_sha256

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60
TRIES = 3


def sha256_of(path: Path) -> str:
    """-> sha256 of a file, 64 hexadecimal digits; computed once by a process while the file stays as it is."""
    facts = path.stat()
    return _sha256(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    return file_sha256(path)


def verify(path: Path, file: WeightFile) -> str:
    """-> sha256 of ``path``. Raises WeightsError where size or checksum are not the published ones."""
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        raise WeightsError(f"{path}: found {size} bytes, expected {file.bytes}; delete it and fetch {file.url} again")
    found = sha256_of(path)
    if not found.startswith(file.sha256):
        raise WeightsError(
            f"{path}: found sha256 {found}, expected {file.sha256}{'...' if len(file.sha256) < 64 else ''}; "
            f"delete it and fetch {file.url} again"
        )
    return found


def fetch(file: WeightFile, folder: Path) -> Path:
    """-> path of the file in ``folder``, downloaded if it is not there.

    What a broken download got stays in ``<name>.part`` and is continued. Two processes that want one file take turns.
    Raises WeightsError where the download fails or the file is not the published one.
    """
    path = folder / file.file_name
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{file.file_name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_file():
            return path
        part = folder / f"{file.file_name}.part"

        def download(url: str, target: str, _) -> None:
            resume(url, part)
            verify(part, file)
            shutil.move(part, target)

        try:
            known = f"sha256:{file.sha256}" if len(file.sha256) == 64 else None
            pooch.get_logger().setLevel("WARNING")
            pooch.retrieve(file.url, known, fname=file.file_name, path=folder, downloader=download)
        except WeightsError:
            part.unlink(missing_ok=True)
            raise
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"{file.url} can't be fetched ({error}); put the file at {path} yourself, "
                "or name one with [weights] choose"
            ) from error
    return path


def resume(url: str, part: Path) -> None:
    """Download ``url`` to ``part``, going on from what is there; try again where the connection breaks."""
    for left in reversed(range(TRIES)):
        try:
            if _continue(url, part):
                return
        except urllib.error.HTTPError as error:
            if error.code != 416:  # 416: nothing is left to send
                raise
            return
        except (OSError, http.client.HTTPException) as error:
            if not left:
                raise OSError(str(error) or type(error).__name__) from error
    raise OSError(f"the connection broke {TRIES} times; run again to go on from {part.stat().st_size} bytes")


def _continue(url: str, part: Path) -> bool:
    """-> whether the file is complete."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        if answer.status != 206:  # the server sends everything from the start
            have = 0
        elif not (sent := answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-"):
            raise OSError(f"found Content-Range {sent!r}, expected bytes from {have} on")
        total = have + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if have else "wb") as file, Progress(part.stem, total >> 20, "MB") as progress:
            shown = have >> 20
            progress.advance(shown)
            while block := answer.read(BLOCK_BYTES):
                file.write(block)
                have += len(block)
                progress.advance((have >> 20) - shown)
                shown = have >> 20
            file.flush()
            os.fsync(file.fileno())
    return have >= total
