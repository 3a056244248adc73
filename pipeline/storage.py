"""Files that appear whole or not at all, and what a disk has to say against it, as one clear line."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ArtefactError

STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into an ArtefactError that says what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # HDF5 raises either, with the number in its text
        told = re.findall(r"(?:errno = |\[Errno )(\d+)", str(error))  # HDF5's way, and a child process's traceback
        numbers = [getattr(error, "errno", None) or 0, *map(int, told)]
        found = next((number for number in numbers if number in STORAGE_ERRORS), None)
        if found is None:
            raise
        where = getattr(error, "filename", None) or path
        raise ArtefactError(
            f"{where}: could not be written: {os.strerror(found).lower()}; expected room and the right to write there: "
            "free some, or set [paths] root"
        ) from error


def partial_path(path: Path) -> Path:
    """-> the hidden sibling that this process writes ``path`` to."""
    path = Path(path)
    return path.parent / f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial"


def remove_stale_partials(path: Path) -> None:
    """Remove siblings of ``path`` that dead processes of this host left behind."""
    path = Path(path)
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(socket.gethostname())}\.(\d+)\.partial")
    for entry in path.parent.iterdir():
        match = pattern.fullmatch(entry.name)
        if match and int(match[1]) != os.getpid() and not Path(f"/proc/{match[1]}").exists():
            entry.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """-> sha256 of a file, 64 hexadecimal digits, without holding it in memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Force a file, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
