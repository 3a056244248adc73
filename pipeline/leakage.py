"""What a split's training side tells about its other side: clips of one recording, and files that are the same.

Numbers are about videos of one subset: how many of them have a sibling among the videos that a model has been trained
on when that subset is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Subset -> the subsets that the model scored on it has been trained on (stage 1 for validation, stage 2 for the test).
TRAINED_ON = {
    "val_seen": ("train",),
    "val_unseen": ("train",),
    "test_seen": ("train", "val_seen", "val_unseen"),
    "test_unseen": ("train", "val_seen", "val_unseen"),
}


@dataclass(frozen=True)
class Leak:
    """``shared`` of ``videos`` of a subset have a sibling in its training data; ``groups``: keys on both sides."""

    subset: str
    videos: int
    shared: int
    groups: int

    @property
    def share(self) -> float:
        """-> per cent, NaN without videos."""
        return 100 * self.shared / self.videos if self.videos else float("nan")


def leaks(keys: Sequence[str], subset: Sequence[str]) -> list[Leak]:
    """``keys``: what siblings have in common (recording or checksum), empty if unknown -> one Leak a subset."""
    key, part = np.asarray(keys, dtype=object), np.asarray(subset, dtype=object)
    known = np.array([bool(entry) for entry in key], dtype=bool)
    found = []
    for name, sources in TRAINED_ON.items():
        trained = set(key[known & np.isin(part, sources)])
        here = part == name
        siblings = [entry for entry in key[here & known] if entry in trained]
        found.append(Leak(name, int(here.sum()), len(siblings), len(set(siblings))))
    return found


def facts(ids: Sequence[str], groups: Sequence[str], subset: Sequence[str]) -> dict[str, list[int]] | None:
    """-> subset -> [videos with a sibling in its training data, videos]; None where no recording is known.

    A dataset whose every video is a recording of its own says nothing about recordings.
    """
    if list(ids) == list(groups):
        return None
    return {leak.subset: [leak.shared, leak.videos] for leak in leaks(groups, subset)}
