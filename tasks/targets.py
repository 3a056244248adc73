"""HDF5 artefacts as Luigi targets."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import luigi
import numpy as np

from pipeline import h5
from pipeline.errors import DamagedArtefact
from pipeline.h5 import Schema

logger = logging.getLogger("luigi-interface")

_columns: dict[str, tuple[tuple[int, int, int], np.ndarray | None]] = {}
_facts: dict[str, tuple[tuple[int, int, int], dict[str, Any] | None]] = {}


class HDF5Target(luigi.Target):
    """An artefact at ``path``. Its facts are read once per version of the file."""

    def __init__(self, path: Path):
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        return self.facts() is not None

    def facts(self) -> dict[str, Any] | None:
        """-> root attributes, or None if the artefact is absent or damaged (which is logged, with its path)."""
        try:
            version = self.version()
        except FileNotFoundError:
            return None
        known = _facts.get(str(self.path))
        if known is None or known[0] != version:
            try:
                known = (version, h5.facts(self.path))
            except DamagedArtefact as error:
                logger.warning("%s; it will be made again", error)
                known = (version, None)
            _facts[str(self.path)] = known
        return known[1]

    def column(self, name: str, schema: Schema) -> np.ndarray | None:
        """-> a small column, read once per version of the file; None if it is damaged, as the file then counts."""
        key = f"{self.path}:{name}"
        version = self.version()
        if key not in _columns or _columns[key][0] != version:
            try:
                with h5.read(self.path, schema) as file:
                    _columns[key] = (version, file[name])
            except DamagedArtefact as error:
                logger.warning("%s; it will be made again", error)
                _facts[str(self.path)] = (version, None)
                _columns[key] = (version, None)
        return _columns[key][1]

    def version(self) -> tuple[int, int, int]:
        """-> what changes when the file is replaced. Raises FileNotFoundError."""
        stat = os.stat(self.path)
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def set_aside(self) -> Path:
        """Rename a damaged artefact, so that the next run makes it again; -> its new path."""
        aside = self.path.with_name(self.path.name + ".damaged")
        os.replace(self.path, aside)
        return aside

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
