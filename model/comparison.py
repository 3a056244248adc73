"""Two results side by side: only if they are of the same videos, or both restricted to the videos they share.

A benchmark carries a hash of its exact video list. Videos that one machine could not get change that list, and with it
every number; predictions are stored per video, so that both results can be scored again on the common ones without
training anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.metrics import MEASURES, harmonic_mean, mean_of, recalls
from pipeline import h5, schemas
from pipeline.errors import PipelineError


@dataclass(frozen=True)
class TestPredictions:
    """What one result says about its test videos; classes by name, since ids differ between benchmarks.

    ``id``, ``target``, ``predicted``, ``zero_shot``: (videos,) str, sorted by id. ``seen``, ``unseen``: class names.
    """

    __test__ = False

    name: str
    video_list: str
    id: np.ndarray
    target: np.ndarray
    predicted: np.ndarray
    zero_shot: np.ndarray
    seen: tuple[str, ...]
    unseen: tuple[str, ...]

    def restricted(self, ids: np.ndarray) -> TestPredictions:
        """-> the same of these videos only. Predictions stay: the search space is not restricted."""
        keep = np.isin(self.id, ids)
        columns = {name: getattr(self, name)[keep] for name in ("id", "target", "predicted", "zero_shot")}
        return replace(self, video_list="restricted", **columns)


@dataclass(frozen=True)
class Comparison:
    """``scores``: one row per result, S, U, HM and ZSL in per cent; ``videos``: test videos that both are scored on.

    ``left_out``: per result, test videos of its own that do not count; ``empty``: classes without a video left.
    """

    names: tuple[str, ...]
    scores: np.ndarray
    videos: int
    left_out: tuple[int, ...]
    empty: tuple[str, ...]


def read_predictions(path: Path) -> TestPredictions:
    """-> predictions of a scores artefact. Raises ArtefactError."""
    with h5.read(path, schemas.SCORES) as file:
        order = np.argsort(file["id"], kind="stable")
        names, unseen = file["class_name"], file["class_unseen"]

        def classes(column: str) -> np.ndarray:
            return names[np.searchsorted(file["class_index"], file[column][order])]

        return TestPredictions(
            name=str(path),
            video_list=file.attributes["video_list_sha256"],
            id=file["id"][order],
            target=classes("target"),
            predicted=classes("predicted"),
            zero_shot=classes("predicted_zero_shot"),
            seen=tuple(str(name) for name in names[~unseen]),
            unseen=tuple(str(name) for name in names[unseen]),
        )


def score(result: TestPredictions) -> tuple[dict[str, float], tuple[str, ...]]:
    """-> (S, U, HM and ZSL in per cent, classes without videos, which are left out of the means)."""
    classes = np.array(sorted({*result.seen, *result.unseen}))
    of_seen, of_unseen = np.isin(classes, result.seen), np.isin(classes, result.unseen)
    share = recalls(result.predicted, result.target, classes)
    seen, unseen = mean_of(share[of_seen]), mean_of(share[of_unseen])
    zero_shot = mean_of(recalls(result.zero_shot, result.target, classes)[of_unseen])
    values = (seen, unseen, harmonic_mean(seen, unseen), zero_shot)
    empty = tuple(str(name) for name in classes[np.isnan(share)])
    return {name: 100 * float(value) for name, value in zip(MEASURES, values, strict=True)}, empty


def compare(results: Sequence[TestPredictions], common: bool = False) -> Comparison:
    """Scores of several results on the same videos.

    Raises PipelineError if their video lists differ and ``common`` is not asked for, if they share no video or a video
    has two classes, or if their seen and unseen classes differ: restricting videos would not make those comparable.
    """
    first = results[0]
    for other in results[1:]:
        if (first.seen, first.unseen) != (other.seen, other.unseen):
            differ = sorted({*first.seen, *first.unseen} ^ {*other.seen, *other.unseen})
            which = f"only one of them has {', '.join(map(repr, differ[:3]))}" if differ else "other ones are unseen"
            raise PipelineError(
                f"{other.name}: found other test classes than in {first.name} ({which}), expected the same: splits "
                "differ, or one of them had no video of a class; such results can't be compared"
            )
        if other.video_list != first.video_list and not common:
            raise PipelineError(
                f"{other.name}: found video list {other.video_list[:12]}, expected {first.video_list[:12]} as in "
                f"{first.name}; --common scores them on the test videos that they share"
            )
    ids = first.id
    for other in results[1:]:
        ids = np.intersect1d(ids, other.id)
    kept = [result.restricted(ids) for result in results]
    if not len(ids):
        raise PipelineError(f"{first.name} and {results[-1].name}: found no test video in common, expected some")
    for other in kept[1:]:
        if not np.array_equal(other.target, kept[0].target):
            video = str(ids[np.argmax(other.target != kept[0].target)])
            raise PipelineError(
                f"{other.name}: video {video!r} has another class than in {first.name}, expected the same; "
                "their manifests differ"
            )
    scored = [score(result) for result in kept]
    table = np.array([[values[name] for name in MEASURES] for values, _ in scored])
    left_out = tuple(len(result.id) - len(ids) for result in results)
    return Comparison(tuple(result.name for result in results), table, len(ids), left_out, scored[0][1])


def lines(found: Comparison) -> Iterator[str]:
    """-> the comparison as lines of text: a row of scores per result, then what they rest on."""
    yield "".join(f"{name:>8}" for name in ("S", "U", "HM", "ZSL")) + "  result"
    for name, row, left_out in zip(found.names, found.scores, found.left_out, strict=True):
        remark = f" ({left_out} of its test videos left out)" if left_out else ""
        yield "".join(f"{value:8.2f}" for value in row) + f"  {name}{remark}"
    yield f"on {found.videos} test videos"
    if found.empty:
        yield f"classes without a video, left out of the means: {', '.join(found.empty)}"
