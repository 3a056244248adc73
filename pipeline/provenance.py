"""Where a number comes from: digests of settings, and the environment that made it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import platform
import socket
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "torchaudio", "numpy", "h5py", "av", "decord", "gensim", "luigi", "scikit-learn")


def plain(value: Any) -> Any:
    """-> the same value in what JSON can hold: dataclasses as objects, tuples as lists, sets as sorted lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(entry) for entry in value)
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def digest(facts: Any) -> str:
    """-> 16 hexadecimal digits of a SHA-256 over the canonical JSON of ``facts``."""
    text = json.dumps(plain(facts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """-> git's description of the working tree this package runs from, else the installed version."""
    root = Path(__file__).resolve().parent.parent
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--tags"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    try:
        return metadata.version("avgzsl")
    except metadata.PackageNotFoundError:
        return "unknown: neither a git checkout nor installed"


@functools.cache
def versions() -> dict[str, str]:
    """-> package -> installed version, without importing any of them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def environment() -> dict[str, Any]:
    """-> what may differ between two runs that give equal data."""
    return {
        "host": socket.gethostname(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "code": code_version(),
        "versions": versions(),
    }
