"""One file of golden arrays against ours: what was compared, how far apart, what was left out and why."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks.parity_group import Group

STAGE_SAMPLES = 13


class Missing(Exception):
    """A golden array that others can't be compared without."""

    def __init__(self, key: str):
        super().__init__(key)
        self.key = key


class Comparison:
    """The arrays of ``path`` (.npz); ``set_name`` is its folder's, which every generated input's name begins with.

    Each comparing method takes the golden array's key and our value, and counts into the group named by its last
    argument. A shape or an exact value that differs counts as an infinite deviation; a key that is missing fails, and
    so does an array that nothing is compared with: sets may hold different cases, but every case is whole.
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
        if key not in self.golden:
            raise Missing(key)
        return self.golden[key]

    def has(self, start: str) -> bool:
        """-> whether this set holds a case whose keys start so."""
        return any(key.startswith(start) for key in self.golden)

    def fail(self, key: str, reason: str) -> None:
        """Count a failure that no number tells."""
        name = f"{self.label} {key}: {reason}" if key else f"{self.label}: {reason}"
        self.groups[name] = Group(name, 0, float("inf"), 0.0, [])
        self.left.discard(key)

    @contextlib.contextmanager
    def complete(self) -> Iterator[None]:
        """Within it an array that is asked for and missing is a failure, and ends it."""
        try:
            yield
        except Missing as error:
            self.fail(error.key, "missing, and others can't be compared without it")

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
            return self.fail(key, "missing")
        self.count(key, 0.0 if np.array_equal(self.golden[key], np.asarray(found)) else float("inf"), 0.0, group)

    def absolute(self, key: str, found: np.ndarray, tolerance: float, group: str = "values") -> None:
        """Largest absolute difference."""
        if key not in self.golden:
            return self.fail(key, "missing")
        self.count(key, largest(self.golden[key], found), tolerance, group)

    def relative(self, key: str, found: np.ndarray, tolerance: float, group: str = "features") -> None:
        """Largest absolute difference, by the largest golden magnitude."""
        if key not in self.golden:
            return self.fail(key, "missing")
        scale = max(float(np.abs(self.golden[key]).max()), 1e-300)
        self.count(key, largest(self.golden[key], found) / scale, tolerance, group)

    def moments(self, key: str, found: np.ndarray, tolerance: float, group: str = "values") -> None:
        """Mean, standard deviation and sum of magnitudes of an array; the sum is compared per value."""
        if key not in self.golden:
            return self.fail(key, "missing")
        x = np.asarray(found, np.float64)
        wanted = self.golden[key] / (1, 1, x.size)
        self.count(key, largest(wanted, np.array([x.mean(), x.std(), np.abs(x).mean()])), tolerance, group)

    def stage(self, key: str, found: np.ndarray, tolerance: float, group: str = "stages") -> None:
        """Mean, deviation, sum of magnitudes and 13 samples of a layer's output, by its mean magnitude."""
        if key not in self.golden:
            return self.fail(key, "missing")
        x = np.asarray(found, np.float64)
        samples = x.ravel()[:: max(1, x.size // STAGE_SAMPLES)][:STAGE_SAMPLES]
        ours = np.array([x.mean(), x.std(), np.abs(x).mean(), *samples])
        wanted = self.golden[key].copy()
        wanted[2] /= x.size
        scale = np.full(len(wanted), max(wanted[2], 1e-300))
        scale[3:] = max(float(np.abs(wanted[3:]).max()), wanted[2])
        self.count(key, largest(wanted / scale, ours / scale), tolerance, group)

    def parts(self, key: str, found: np.ndarray, tolerance: float) -> None:
        """Whatever is here of an array: all of it, under ``key``, or every n-th along its last axes, under
        ``key/subset_::2_::3`` (also written ``key_subset_...``)."""
        spelled = [each for each in self.golden if re.fullmatch(rf"{re.escape(key)}([/_]subset(_[\d:]*)+)?", each)]
        for each in spelled:
            steps = [part.split(":") for part in each[len(key) + 1 :].split("_")[1:]]
            cut = [slice(*(int(number) if number else None for number in step)) for step in steps]
            self.absolute(each, found[(..., *cut)], tolerance)
        if not spelled:
            self.fail(key, "missing, and so is every subset of it")

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
        """-> the groups; arrays that nothing was compared with are failures, as is a file without any other."""
        for key in sorted(self.left):
            self.fail(key, "nothing was compared with this array")
        if not any(group.compared for group in self.groups.values()):
            self.fail("", "nothing was compared")
        return list(self.groups.values())


def largest(wanted: np.ndarray, found: np.ndarray) -> float:
    """-> largest absolute difference; infinite where the shapes differ."""
    found = np.asarray(found)
    if wanted.shape != found.shape:
        return float("inf")
    return float(np.abs(wanted.astype(np.float64) - found.astype(np.float64)).max(initial=0.0))
