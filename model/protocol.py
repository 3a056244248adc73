"""What a method is, and what it is given. NumPy only.

A method is ``fit(benchmark, stage, ...) -> Fit`` and ``scores(state, audio, video, class_vectors, ...) -> Scores``.
Its state is named arrays and nothing else, so that an artefact, a published checkpoint and a test can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from model.settings import Spec
from pipeline import h5, schemas
from pipeline.errors import ArtefactError

if TYPE_CHECKING:
    import torch

WIDTHS = {"selavi": (512, 512), "c3d_vggish": (128, 4096)}  # audio, video

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Benchmark:
    """Everything training needs, in memory. Class ids are rows of ``class_name``.

    ``audio`` (N, Da), ``video`` (N, Dv), ``class_vector`` (C, 300): float32; ``class_index`` (N) int64; ``subset`` (N)
    one of schemas.SUBSETS; ``class_role`` (C) one of schemas.ROLES. ``content``, ``video_list``: sha256 of the artefact
    and of its list of videos.
    """

    class_name: np.ndarray
    class_role: np.ndarray
    class_vector: np.ndarray
    id: np.ndarray
    class_index: np.ndarray
    subset: np.ndarray
    audio: np.ndarray
    video: np.ndarray
    content: str = ""
    video_list: str = ""
    where: str = "benchmark"

    def __post_init__(self) -> None:
        check_features(self)
        check_split(self)

    def classes(self, *roles: str) -> np.ndarray:
        """-> ascending ids of the classes with one of these roles."""
        return np.flatnonzero(np.isin(self.class_role, roles))

    def rows(self, *subsets: str) -> np.ndarray:
        """-> ascending numbers of the videos in one of these subsets."""
        return np.flatnonzero(np.isin(self.subset, subsets))


def read_benchmark(path: Path, feature_set: str = "") -> Benchmark:
    """-> the benchmark of an artefact. Raises ArtefactError for features or a split that can't be trained on."""
    with h5.read(path, schemas.BENCHMARK) as file:
        columns = {name: file[name] for name in
                   ("class_name", "class_role", "class_vector", "id", "subset", "audio", "video")}
        benchmark = Benchmark(
            **columns, class_index=file["class_index"].astype(np.int64), content=file.attributes["content_sha256"],
            video_list=file.attributes["video_list_sha256"], where=str(path),
        )
    if feature_set in WIDTHS:
        found = (benchmark.audio.shape[1], benchmark.video.shape[1])
        if found != WIDTHS[feature_set]:
            raise ArtefactError(
                f"{path}: found audio and video features of width {found[0]} and {found[1]}, expected "
                f"{WIDTHS[feature_set][0]} and {WIDTHS[feature_set][1]} of {feature_set}; extract them again"
            )
    return benchmark


def check_features(benchmark: Benchmark) -> None:
    """Raise ArtefactError at the first value that is not finite, or where columns disagree in length."""
    count = len(benchmark.id)
    for name in ("audio", "video", "class_index", "subset"):
        if len(getattr(benchmark, name)) != count:
            raise ArtefactError(
                f"{benchmark.where}: found {len(getattr(benchmark, name))} rows of {name}, expected one for each of "
                f"{count} videos"
            )
    for name, owner in (("audio", benchmark.id), ("video", benchmark.id), ("class_vector", benchmark.class_name)):
        bad = ~np.isfinite(getattr(benchmark, name)).all(axis=1)
        if bad.any():
            raise ArtefactError(
                f"{benchmark.where}: found NaN or infinity in {name} of {owner[bad.argmax()]} ({bad.sum()} such rows), "
                "expected finite numbers; extract the features again"
            )
    if count and not 0 <= benchmark.class_index.min() <= benchmark.class_index.max() < len(benchmark.class_name):
        raise ArtefactError(f"{benchmark.where}: found a class_index that is no row of class_name")


def check_split(benchmark: Benchmark) -> None:
    """Raise ArtefactError for a split that two-stage generalised zero-shot learning can't use."""
    needed = {"train": 2, "val_unseen": 1, "test_unseen": 1}
    for role, least in needed.items():
        found = len(benchmark.classes(role))
        if found < least:
            raise ArtefactError(
                f"{benchmark.where}: found {found} classes of role {role}, expected {least} or more; make another split"
            )
    for subset in schemas.SUBSETS:
        if not len(benchmark.rows(subset)):
            raise ArtefactError(f"{benchmark.where}: found no video in {subset}, expected one or more in every subset")
    of_train = len(np.unique(benchmark.class_index[benchmark.rows("train")]))
    if of_train < 2:
        raise ArtefactError(
            f"{benchmark.where}: found training videos of {of_train} class, expected 2 or more: "
            "a negative is a video of another class"
        )
    allowed = {"train": ("train",), "val_seen": ("train",), "val_unseen": ("val_unseen",),
               "test_seen": ("train", "val_unseen"), "test_unseen": ("test_unseen",)}
    for subset, roles in allowed.items():
        rows = benchmark.rows(subset)
        wrong = ~np.isin(benchmark.class_role[benchmark.class_index[rows]], roles)
        if wrong.any():
            row = rows[wrong.argmax()]
            label = benchmark.class_index[row]
            raise ArtefactError(
                f"{benchmark.where}: found {benchmark.id[row]} in {subset} though its class "
                f"{benchmark.class_name[label]} has role {benchmark.class_role[label]}, expected {' or '.join(roles)}"
            )


@dataclass(frozen=True)
class SearchSpace:
    """Videos that are classified and the classes they are searched in: ``seen`` and ``unseen`` ids, ascending."""

    rows: np.ndarray
    seen: np.ndarray
    unseen: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """All ids of the search space, ascending: the columns of its distance matrix."""
        return np.sort(np.concatenate((self.seen, self.unseen)))


@dataclass(frozen=True)
class Stage:
    """One of the two trainings of section 4.1.

    ``classes``: training class ids, ascending. ``validation``: in stage 2 it is made of training videos; only the
    learning rate of the published schedule looks at it there. ``test``: for the published f-VAEGAN alone.
    ``learning_rates``: one per epoch (stage 2, corrected), or empty: falls on a plateau of the validation HM.
    ``chosen_epoch``: stage 2 only, 0-based, from stage 1.
    """

    number: int
    rows: np.ndarray
    classes: np.ndarray
    validation: SearchSpace
    test: SearchSpace
    epochs: int
    learning_rates: tuple[float, ...] = ()
    chosen_epoch: int = -1


def validation_space(benchmark: Benchmark) -> SearchSpace:
    return SearchSpace(benchmark.rows("val_seen", "val_unseen"), benchmark.classes("train"),
                       benchmark.classes("val_unseen"))


def evaluation_space(benchmark: Benchmark) -> SearchSpace:
    return SearchSpace(benchmark.rows("test_seen", "test_unseen"), benchmark.classes("train", "val_unseen"),
                       benchmark.classes("test_unseen"))


@dataclass
class History:
    """What an epoch was; lists of one entry per epoch. Accuracies in per cent, of the standard output on validation."""

    terms: tuple[str, ...] = ()
    loss: list[float] = field(default_factory=list)
    term: list[list[float]] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    unseen: list[float] = field(default_factory=list)
    harmonic_mean: list[float] = field(default_factory=list)
    zero_shot: list[float] = field(default_factory=list)
    calibration: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Fit:
    """``state``: of the chosen epoch (stage 1: best validation HM, earliest wins; stage 2: the last one trained).

    ``calibrations``: beta of each output for the test, from the chosen epoch's validation; empty after stage 2.
    """

    state: State
    history: History
    chosen_epoch: int
    calibrations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """Distances of N videos to the C classes asked for, smaller is nearer.

    ``distances``: output name -> (N, C); the first is the method's standard. ``zero_shot``: (N, C) where ZSL has a
    classifier of its own (f-VAEGAN), else None: the standard distances. ``embedding`` (N, k) and ``label_embedding``
    (C, k): what predicts, for plots.
    """

    distances: Mapping[str, np.ndarray]
    embedding: np.ndarray
    label_embedding: np.ndarray
    zero_shot: np.ndarray | None = None


class Method(Protocol):
    """``outputs``: names of its predictions, the standard one first. ``calibrated``: whether betas are searched."""

    outputs: ClassVar[tuple[str, ...]]
    calibrated: ClassVar[bool]

    def __init__(self, spec: Spec, published: frozenset[str]): ...

    def fit(self, benchmark: Benchmark, stage: Stage, generator: torch.Generator, checkpoint: Path | None) -> Fit:
        """Train one stage. ``checkpoint``: where to leave off and to take up again, at most one epoch back.

        ``generator`` draws the batches; dropout and initial weights use the global generator, seeded by the caller.
        """

    def scores(
        self, state: State, audio: np.ndarray, video: np.ndarray, class_vectors: np.ndarray, classes: Sequence[int]
    ) -> Scores:
        """``audio`` (N, Da), ``video`` (N, Dv), ``class_vectors`` (C, 300) of the class ids ``classes`` (C)."""
