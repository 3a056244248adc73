"""Generalised zero-shot scores from a matrix of distances. NumPy only.

Conventions
* ``distances`` (N, C): video to class, smaller is nearer; column j belongs to the class id ``classes[j]``, ascending.
* ``targets`` (N): true class ids. ``seen``, ``unseen``: ids of the search space; together they are ``classes``.
* Calibrated stacking (Chao et al. 2016): beta is **added to the distances of the seen classes**. A tie between two
  classes goes to the lower id.
* S, U: mean over the seen, the unseen classes of the per-class recall. HM = 2 U S / (U + S + eps64).
  ZSL: the same mean over unseen classes when only those may be predicted; no beta.
* A class without videos has no recall; it is left out of the means and named (``empty``), or an error (``strict``).
* All values are fractions, 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.errors import PipelineError

# 0, 0.2, ..., 3 as float32 has them: the released code searches in that precision and keeps the value
BETAS: np.ndarray = np.linspace(0, 3, 16).astype(np.float32).astype(np.float64)
EPSILON = float(np.finfo(np.float64).eps)
MEASURES = ("seen", "unseen", "harmonic_mean", "zero_shot")


class MetricError(PipelineError):
    """Distances, targets and class ids do not fit together, or a class has no videos under ``strict``."""


@dataclass(frozen=True)
class Predictions:
    """``generalised`` (B, N): predicted id at each of B betas; ``zero_shot`` (N): among the unseen classes."""

    generalised: np.ndarray
    zero_shot: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Scores at each of B betas, (B) each, and at the best one. ``empty``: ids of classes without videos."""

    betas: np.ndarray
    seen: np.ndarray
    unseen: np.ndarray
    harmonic_mean: np.ndarray
    zero_shot: float
    best: int
    predictions: Predictions
    empty: tuple[int, ...]

    @property
    def beta(self) -> float:
        return float(self.betas[self.best])

    def at_best(self) -> dict[str, float]:
        """-> the four measures at the best beta."""
        return {
            "seen": float(self.seen[self.best]), "unseen": float(self.unseen[self.best]),
            "harmonic_mean": float(self.harmonic_mean[self.best]), "zero_shot": self.zero_shot,
        }


def validate(distances: np.ndarray, targets: np.ndarray, seen: np.ndarray, unseen: np.ndarray) -> None:
    """Raise MetricError unless the arguments follow the conventions."""
    classes = np.union1d(seen, unseen)
    if len(classes) != len(seen) + len(unseen):
        raise MetricError(f"class {np.intersect1d(seen, unseen)[0]} is both seen and unseen, expected disjoint ids")
    if not len(seen) or not len(unseen):
        raise MetricError(f"found {len(seen)} seen and {len(unseen)} unseen classes, expected one or more of each")
    if distances.ndim != 2 or distances.shape[1] != len(classes):
        raise MetricError(f"found distances of shape {distances.shape}, expected (videos, {len(classes)} classes)")
    if targets.shape != distances.shape[:1]:
        raise MetricError(f"found targets of shape {targets.shape}, expected one for each of {len(distances)} videos")
    if not np.isfinite(distances).all():
        row = int((~np.isfinite(distances)).any(axis=1).argmax())
        raise MetricError(f"found a distance of video {row} that is not finite, expected finite distances")
    stray = np.setdiff1d(targets, classes)
    if len(stray):
        raise MetricError(f"found target class {stray[0]}, expected one of the {len(classes)} classes searched")


def predict(distances: np.ndarray, seen: np.ndarray, unseen: np.ndarray, betas: np.ndarray) -> Predictions:
    """-> class ids at every beta at once.

    Adding beta to all seen distances leaves the nearest seen class as it is, so that one pass over (N, C) serves all.
    """
    classes = np.union1d(seen, unseen)
    ids = {}
    nearest = {}
    for name, group in (("seen", seen), ("unseen", unseen)):
        columns = np.searchsorted(classes, np.sort(group))
        part = distances[:, columns]  # (N, group)
        at = part.argmin(axis=1)
        ids[name] = classes[columns[at]]  # (N)
        nearest[name] = part[np.arange(len(part)), at]  # (N)
    raised = nearest["seen"] + betas[:, None].astype(distances.dtype)  # (B, N)
    tie_to_unseen = (raised == nearest["unseen"]) & (ids["unseen"] < ids["seen"])
    generalised = np.where((nearest["unseen"] < raised) | tie_to_unseen, ids["unseen"], ids["seen"])  # (B, N)
    return Predictions(generalised, ids["unseen"])


def recalls(predicted: np.ndarray, targets: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """``predicted`` (..., N) -> recall of each class (..., C), nan without videos."""
    column = np.searchsorted(classes, targets)
    count = np.bincount(column, minlength=len(classes))
    hits = (predicted == targets).reshape(-1, len(targets))  # (B, N)
    rows, videos = np.nonzero(hits)
    correct = np.bincount(rows * len(classes) + column[videos], minlength=len(hits) * len(classes))
    with np.errstate(invalid="ignore"):
        share = correct.reshape(len(hits), len(classes)) / count
    return share.reshape(*predicted.shape[:-1], len(classes))


def harmonic_mean(seen: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    return 2 * unseen * seen / (unseen + seen + EPSILON)


def evaluate(
    distances: np.ndarray, targets: np.ndarray, seen: np.ndarray, unseen: np.ndarray,
    betas: np.ndarray = BETAS, zero_shot: np.ndarray | None = None, strict: bool = False,
) -> Evaluation:
    """-> scores at all ``betas``; the best has the largest HM, the smallest beta if several have it.

    ``zero_shot`` (N, C): other distances for ZSL alone. Raises MetricError (see ``validate``).
    """
    distances, targets, betas = np.asarray(distances), np.asarray(targets), np.asarray(betas, dtype=np.float64)
    seen, unseen = np.asarray(seen), np.asarray(unseen)
    validate(distances, targets, seen, unseen)
    classes = np.union1d(seen, unseen)
    empty = tuple(int(k) for k in np.setdiff1d(classes, targets))
    if strict and empty:
        raise MetricError(
            f"found no video of class {', '.join(map(str, empty))}, expected one or more of each under strict; "
            "without it such a class is left out of the mean and named"
        )
    predictions = predict(distances, seen, unseen, betas)
    if zero_shot is not None:
        predictions = Predictions(predictions.generalised, predict(zero_shot, seen, unseen, betas[:1]).zero_shot)
    of_seen, of_unseen = np.isin(classes, seen), np.isin(classes, unseen)
    share = recalls(predictions.generalised, targets, classes)  # (B, C)
    s, u = mean_of(share[:, of_seen]), mean_of(share[:, of_unseen])  # (B)
    hm = harmonic_mean(s, u)
    zsl = mean_of(recalls(predictions.zero_shot, targets, classes)[of_unseen])
    return Evaluation(betas, s, u, hm, float(zsl), int(np.argmax(hm)), predictions, empty)


def mean_of(share: np.ndarray) -> np.ndarray:
    """-> mean over the last axis without the classes that have no videos; 0 if none has any."""
    has = ~np.isnan(share)
    return np.where(has, share, 0).sum(-1) / np.maximum(has.sum(-1), 1)


def confusion(predicted: np.ndarray, targets: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """-> counts (C, C): row true, column predicted."""
    size = len(classes)
    at = np.searchsorted(classes, targets) * size + np.searchsorted(classes, predicted)
    return np.bincount(at, minlength=size * size).reshape(size, size)
