"""Scratch folders that disappear, also those of processes that were killed."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_own: set[str] = set()


@contextlib.contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """A hidden folder beside ``path``, gone afterwards; those that dead processes of this host left are removed.

    In a container a new process often has the number of the one that was killed: a folder with this process's number
    that it did not make itself is a dead one's, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.{os.uname().nodename}."
    for entry in path.parent.glob(f"{glob.escape(prefix)}*.clips*"):
        owner = entry.name.removeprefix(prefix).split(".")[0]
        dead = not Path(f"/proc/{owner}").exists() or (owner == str(os.getpid()) and str(entry) not in _own)
        if owner.isdigit() and dead:
            shutil.rmtree(entry, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}.clips", dir=path.parent) as folder:
        _own.add(folder)
        yield Path(folder)
