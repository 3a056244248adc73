"""Results of trainings as the report reads them, and what is computed over their seeds and test videos.

Conventions: per cent everywhere. A group is what differs in its seed alone. Classes are rows of the benchmark's
``class_name``; S, U, HM, ZSL and their names follow the scores artefact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import h5, published_results, schemas
from pipeline.errors import ArtefactError

MEASURES = {"S": "seen", "U": "unseen", "HM": "harmonic_mean", "ZSL": "zero_shot"}
SCORE_COLUMNS = (
    "output", *MEASURES.values(), "calibration", "beta", "curve_seen", "curve_unseen", "class_index",
    "class_unseen", "class_videos", "class_recall", "class_zero_shot", "confusion", "id", "target", "predicted",
    "predicted_zero_shot",
)
HISTORY_COLUMNS = ("loss", "learning_rate", *MEASURES.values(), "calibration")
EPSILON = float(np.finfo(np.float64).eps)
Interval = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class ReportEntry:
    """Paths of one evaluation; ``split`` is None where features were imported with a split of their own.

    ``facts``: dataset, feature_set, method, protocol, deviations, seed, published, ...
    """

    benchmark: Path
    stage1: Path
    stage2: Path
    scores: Path
    split: Path | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One evaluation. ``scores``, ``stage1``, ``stage2``: column -> array; ``attributes``: artefact -> root attributes.

    ``class_name``: names of all classes of the benchmark.
    """

    entry: ReportEntry
    scores: dict[str, np.ndarray]
    stage1: dict[str, np.ndarray]
    stage2: dict[str, np.ndarray]
    attributes: dict[str, dict[str, Any]]
    class_name: np.ndarray

    def fact(self, name: str) -> Any:
        return self.entry.facts.get(name, "")

    @property
    def seed(self) -> int:
        return int(self.fact("seed"))

    @property
    def group_key(self) -> tuple[str, ...]:
        return tuple(str(self.fact(name)) for name in ("dataset", "feature_set", "method", "protocol", "deviations"))

    @property
    def weights(self) -> str:
        return published_results.weights_kind(self.attributes["benchmark"].get("weights"))

    @property
    def origin(self) -> str:
        """-> whose hyper-parameters it was trained with (model.settings.Spec)."""
        return str((self.attributes["scores"].get("spec") or {}).get("origin", "not known"))

    @property
    def obstacle(self) -> str:
        """-> why it can't be compared with published results, in words; empty if it can."""
        where = (str(self.fact("dataset")), str(self.fact("feature_set")))
        protocol = ", ".join(filter(None, (str(self.fact("protocol")), str(self.fact("deviations")))))
        return published_results.obstacle(*where, protocol, self.origin, self.attributes["benchmark"])

    @property
    def unseen_classes(self) -> int:
        return int(self.scores["class_unseen"].sum())

    def chance(self) -> dict[str, float]:
        """-> per cent that guessing gets: any class for S, U and HM, any unseen class for ZSL."""
        guess = 100 / len(self.scores["class_index"])
        return {"S": guess, "U": guess, "HM": guess, "ZSL": 100 / self.unseen_classes}

    def value(self, measure: str) -> float:
        """-> of the standard output."""
        return float(self.scores[MEASURES[measure]][0])

    def coverage(self) -> float:
        """-> per cent of the split's videos that have features; nan where the benchmark does not say."""
        counts = self.attributes["benchmark"].get("coverage") or {}
        videos = sum(count["videos"] for count in counts.values())
        return 100 * sum(count["with_features"] for count in counts.values()) / videos if videos else float("nan")


@dataclass(frozen=True)
class Group:
    """All seeds of one method on one benchmark.

    ``interval``: measure -> (lower, upper) of the mean over seeds, nan if not computed; ``intervals``: of each seed.
    """

    results: tuple[Result, ...]
    interval: Interval
    intervals: tuple[Interval, ...]

    @property
    def first(self) -> Result:
        return self.results[0]

    @property
    def seeds(self) -> list[int]:
        return [result.seed for result in self.results]

    def values(self, measure: str) -> np.ndarray:
        """-> (seeds) per cent."""
        return np.array([result.value(measure) for result in self.results])

    def mean(self, measure: str) -> float:
        return float(self.values(measure).mean())

    def deviation(self, measure: str) -> float:
        """-> standard deviation over seeds (n - 1), nan for a single one."""
        values = self.values(measure)
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def read(entry: ReportEntry) -> Result:
    """Read what the report shows of one evaluation, embeddings excepted. Raises ArtefactError."""
    attributes = {}
    with h5.read(entry.scores, schemas.SCORES) as file:
        scores = {name: file[name] for name in SCORE_COLUMNS}
        attributes["scores"] = file.attributes
    stages = []
    for number, (path, schema) in enumerate(((entry.stage1, schemas.STAGE1), (entry.stage2, schemas.STAGE2)), 1):
        with h5.read(path, schema) as file:
            stages.append({name: file[name] for name in HISTORY_COLUMNS})
            attributes[f"stage{number}"] = file.attributes
    with h5.read(entry.benchmark, schemas.BENCHMARK) as file:
        class_name, attributes["benchmark"] = file["class_name"], file.attributes
    if entry.split:
        attributes["split"] = h5.facts(entry.split)
    if scores["class_index"].max(initial=-1) >= len(class_name):
        raise ArtefactError(
            f"{entry.scores}: found class {scores['class_index'].max()}, expected rows of the {len(class_name)} "
            f"classes of {entry.benchmark}; evaluate again"
        )
    return Result(entry, scores, stages[0], stages[1], attributes, class_name)


def grouped(results: Sequence[Result], samples: int, seed: int) -> list[Group]:
    """-> one group for all results that differ in their seed alone, in the order of their first result."""
    keys = list(dict.fromkeys(result.group_key for result in results))
    groups = []
    for key in keys:
        members = sorted((result for result in results if result.group_key == key), key=lambda result: result.seed)
        groups.append(Group(tuple(members), *bootstrap(members, samples, seed)))
    return groups


def bootstrap(results: Sequence[Result], samples: int, seed: int) -> tuple[Interval, tuple[Interval, ...]]:
    """-> 95 % percentile intervals under drawing the test videos anew: of the mean over seeds, and of each seed.

    All seeds see the same drawn videos. A class without a drawn video is left out of that draw's mean. nan if
    ``samples`` is 0. Raises ArtefactError if the seeds were tested on different videos.
    """
    if not samples:
        unknown: Interval = dict.fromkeys(MEASURES, (float("nan"), float("nan")))
        return unknown, (unknown,) * len(results)
    first = results[0].scores
    for result in results[1:]:
        if not np.array_equal(result.scores["id"], first["id"]):
            raise ArtefactError(f"{result.entry.scores}: found other test videos than in {results[0].entry.scores}")
    order = np.argsort(first["target"], kind="stable")
    present, start = np.unique(first["target"][order], return_index=True)
    unseen = first["class_unseen"][np.searchsorted(first["class_index"], present)]
    hits = np.stack([
        result.scores[column][order] == result.scores["target"][order]
        for column in ("predicted", "predicted_zero_shot") for result in results
    ], axis=1).astype(np.float64)  # (videos, 2 x seeds)
    random = np.random.default_rng(seed)
    values = np.empty((samples, len(MEASURES), len(results)))
    for row in range(samples):
        times = random.multinomial(len(order), np.full(len(order), 1 / len(order))).astype(np.float64)
        count = np.add.reduceat(times, start)  # (classes)
        with np.errstate(invalid="ignore"):
            recall = np.add.reduceat(times[:, None] * hits, start) / count[:, None]  # (classes, 2 x seeds)
        values[row] = means(recall, unseen)
    return interval(values.mean(axis=2)), tuple(interval(values[:, :, k]) for k in range(len(results)))


def interval(values: np.ndarray) -> Interval:
    """(samples, measures), fractions -> measure -> the middle 95 %, in per cent."""
    lower, upper = 100 * np.quantile(values, (0.025, 0.975), axis=0)
    return {name: (float(lower[k]), float(upper[k])) for k, name in enumerate(MEASURES)}


def means(recall: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """``recall`` (classes, 2 x seeds): generalised, then zero-shot ones. -> S, U, HM, ZSL (4, seeds)."""
    half = recall.shape[1] // 2
    s, u = mean_known(recall[~unseen, :half]), mean_known(recall[unseen, :half])
    return np.stack((s, u, 2 * s * u / (s + u + EPSILON), mean_known(recall[unseen, half:])))


def mean_known(recall: np.ndarray) -> np.ndarray:
    """-> mean over the classes that have videos; 0 where none has."""
    known = ~np.isnan(recall)
    return np.where(known, recall, 0).sum(0) / np.maximum(known.sum(0), 1)
