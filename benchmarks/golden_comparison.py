"""One file of golden arrays against ours: what was compared, how far apart, what was left out and why."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks.parity_group import Group

STAGE_SAMPLES = 13


class Comparison:
    """The arrays of ``path`` (.npz); ``set_name`` is its folder's, which every generated input's name begins with.

    Each comparing method takes the golden array's key and our value, and counts into the group named by its last
    argument. A shape or an exact value that differs counts as an infinite deviation; a key that this set lacks counts
    as nothing.
    """

    def __init__(self, path: Path, recipe: ModuleType):
        with np.load(path) as file:
            self.golden = {key: file[key] for key in file.files}
        self.path = path
        self.recipe = recipe
        self.set_name = path.parent.name
        self.label = f"{self.set_name} {path.stem}"
        self.groups: dict[str, Group] = {}
        self.left = set(self.golden)

    def __getitem__(self, key: str) -> np.ndarray:
        return self.golden[key]

    def names(self, suffix: str) -> list[str]:
        """-> what stands before ``suffix`` in keys that end so, in file order."""
        return [key[: -len(suffix)] for key in self.golden if key.endswith(suffix)]

    def count(self, key: str, deviation: float, tolerance: float, group: str) -> None:
        entry = self.groups.setdefault(group, Group(f"{self.label}: {group}", 0, 0.0, tolerance, []))
        entry.compared += 1
        entry.deviation = max(entry.deviation, float("inf") if np.isnan(deviation) else deviation)
        self.left.discard(key)

    def exact(self, key: str, found: object, group: str = "exact") -> None:
        """Values, texts, counts or indices that have to be equal."""
        if key not in self.golden:
            return
        self.count(key, 0.0 if np.array_equal(self.golden[key], np.asarray(found)) else float("inf"), 0.0, group)

    def absolute(self, key: str, found: np.ndarray, tolerance: float, group: str = "values") -> None:
        """Largest absolute difference."""
        if key not in self.golden:
            return
        self.count(key, largest(self.golden[key], found), tolerance, group)

    def relative(self, key: str, found: np.ndarray, tolerance: float, group: str = "features") -> None:
        """Largest absolute difference, by the largest golden magnitude."""
        if key not in self.golden:
            return
        scale = max(float(np.abs(self.golden[key]).max()), 1e-300)
        self.count(key, largest(self.golden[key], found) / scale, tolerance, group)

    def moments(self, key: str, found: np.ndarray, tolerance: float, group: str = "values") -> None:
        """Mean, standard deviation and sum of magnitudes of an array; the sum is compared per value."""
        if key not in self.golden:
            return
        x = np.asarray(found, np.float64)
        wanted = self.golden[key] / (1, 1, x.size)
        self.count(key, largest(wanted, np.array([x.mean(), x.std(), np.abs(x).mean()])), tolerance, group)

    def stage(self, key: str, found: np.ndarray, tolerance: float, group: str = "stages") -> None:
        """Mean, deviation, sum of magnitudes and 13 samples of a layer's output, by its mean magnitude."""
        if key not in self.golden:
            return
        x = np.asarray(found, np.float64)
        samples = x.ravel()[:: max(1, x.size // STAGE_SAMPLES)][:STAGE_SAMPLES]
        ours = np.array([x.mean(), x.std(), np.abs(x).mean(), *samples])
        wanted = self.golden[key].copy()
        wanted[2] /= x.size
        scale = np.full(len(wanted), max(wanted[2], 1e-300))
        scale[3:] = max(float(np.abs(wanted[3:]).max()), wanted[2])
        self.count(key, largest(wanted / scale, ours / scale), tolerance, group)

    def ignore(self, pattern: str, reason: str) -> None:
        for key in sorted(key for key in self.left if fnmatchcase(key, pattern)):
            self.left.discard(key)
            if not self.groups:
                self.groups["exact"] = Group(f"{self.label}: exact", 0, 0.0, 0.0, [])
            next(iter(self.groups.values())).ignored.append((key, reason))

    def settings(self, *keys: str) -> None:
        """Leave out what the other arrays were made with."""
        for key in keys:
            self.ignore(key, "a setting that the other arrays were made with")

    def finish(self) -> list[Group]:
        """-> the groups; arrays that nothing looked at are listed as such."""
        self.ignore("*", "no rule for this array")
        return list(self.groups.values())


def largest(wanted: np.ndarray, found: np.ndarray) -> float:
    """-> largest absolute difference; infinite where the shapes differ."""
    found = np.asarray(found)
    if wanted.shape != found.shape:
        return float("inf")
    return float(np.abs(wanted.astype(np.float64) - found.astype(np.float64)).max(initial=0.0))
