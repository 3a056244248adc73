"""f-VAEGAN-D2 (Xian et al., CVPR 2019) on joint audio-visual features, as a method of the two-stage protocol.

How it maps on the two stages:

* stage 1 trains on ``train`` and evaluates on ``val_seen`` + ``val_unseen`` after every epoch: networks of that epoch,
  a new synthetic set of the unseen validation classes, two new classifiers. Best HM (first wins) picks the epoch.
* stage 2 trains on ``train`` + ``val_seen`` + ``val_unseen``. Corrected: as many epochs as stage 1 picked, one
  synthetic set of the unseen test classes, one pair of classifiers, the calibration of stage 1; no test video is read.
  ``fvaegan_selection`` published: all epochs, each evaluated **on the test videos**, best HM (first wins) kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from model import metrics
from model.baselines.fvaegan_classifier import Classifier, Rows, Synthetic, pools, train
from model.baselines.fvaegan_networks import FvaeganSettings, Networks, normalise
from model.baselines.fvaegan_trainer import TERMS, NetworkTrainer
from model.checkpoint import TrainingCheckpoint, identity
from model.embedding import resolve_device
from model.protocol import Benchmark, Fit, History, Scores, SearchSpace, Stage, State
from model.settings import Spec
from model.training import TrainingError, arithmetic
from pipeline.errors import ArtefactError, SettingsError
from pipeline.progress import Progress

FAR = 1e9


@dataclass(frozen=True)
class Features:
    """A benchmark's arrays as tensors on one device: ``audio``, ``video``, ``vectors`` (C, 300), ``labels`` (N)."""

    audio: Tensor
    video: Tensor
    vectors: Tensor
    labels: Tensor

    @classmethod
    def of(cls, benchmark: Benchmark, device: torch.device) -> Features:
        arrays = (benchmark.audio, benchmark.video, benchmark.class_vector)
        audio, video, vectors = (torch.from_numpy(np.ascontiguousarray(a, np.float32)).to(device) for a in arrays)
        return cls(audio, video, vectors, torch.from_numpy(benchmark.class_index.astype(np.int64)).to(device))

    def rows(self, rows: np.ndarray) -> Rows:
        return Rows(self.audio, self.video, torch.from_numpy(rows.astype(np.int64)).to(self.audio.device))


@dataclass
class Course:
    """What a stage has come to: epochs so far, and state and beta of the epoch that is kept."""

    history: History = field(default_factory=lambda: History(terms=TERMS))
    state: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = -1
    beta: float = 0.0

    def record(self, terms: list[float], rate: float, evaluation: metrics.Evaluation | None) -> None:
        """Append an epoch. ``loss``: the generator's, per row: reconstruction and divergence."""
        history = self.history
        history.loss.append(terms[2] + terms[3])
        history.term.append(terms)
        history.learning_rate.append(rate)
        found = evaluation.at_best() if evaluation else dict.fromkeys(metrics.MEASURES, math.nan)
        for measure in metrics.MEASURES:
            getattr(history, measure).append(100 * found[measure])
        history.calibration.append(evaluation.beta if evaluation else math.nan)

    def kept(self, trainer: NetworkTrainer) -> dict:
        """-> what a restart needs."""
        return {"trainer": trainer.state(), "history": vars(self.history), "state": self.state, "epoch": self.epoch,
                "beta": self.beta}

    @classmethod
    def resumed(cls, keeper: TrainingCheckpoint, trainer: NetworkTrainer) -> Course:
        """-> the course that was left off, with ``trainer`` as it was then; a new one if there is none."""
        content = keeper.load()
        if content is None:
            return cls()
        trainer.load(content["trainer"])
        return cls(History(**{**content["history"], "terms": TERMS}), content["state"], content["epoch"],
                   content["beta"])

    def keep_if_best(self, state: dict[str, Tensor], evaluation: metrics.Evaluation) -> None:
        """Keep the last recorded epoch if its HM is greater than that of every earlier one (the first always)."""
        values = self.history.harmonic_mean
        if all(values[-1] > value for value in values[:-1]):
            self.state, self.epoch, self.beta = state, len(values) - 1, evaluation.beta


class FVAEGAN:
    """f-VAEGAN-D2 as a method. Distances are negative log-probabilities, so that calibrated stacking works on them.

    Corrected, beta is searched on validation as for the other methods: an extension of the baseline, because real and
    synthetic rows are never equally easy. ``fvaegan_defects`` published: no calibration, beta 0.
    """

    outputs: ClassVar[tuple[str, ...]] = ("softmax",)
    calibrated: ClassVar[bool] = True

    def __init__(self, spec: Spec, published: frozenset[str]):
        self.spec, self.published = spec, published
        self.defects = "fvaegan_defects" in published
        self.select = "fvaegan_selection" in published
        self.betas = np.zeros(1) if self.defects else metrics.BETAS
        self.settings = FvaeganSettings(
            batch_size=spec.batch_size, learning_rate=spec.learning_rate, classifier_learning_rate=spec.learning_rate,
            synthetic_per_class=spec.synthetic_per_class,
        )
        least = 1 if "fvaegan_batches" in published else self.settings.critic_updates
        if spec.batches_per_epoch < least:
            raise SettingsError(
                f"[training] batches_per_epoch: found {spec.batches_per_epoch}, expected {least} or more for fvaegan, "
                "whose generator learns once in as many batches"
            )

    def fit(self, benchmark: Benchmark, stage: Stage, generator: torch.Generator, checkpoint: Path | None) -> Fit:
        """Train one stage (module docstring). The history of stage 2 has accuracies only where they select (published).

        Raises ArtefactError for negative features, TrainingError with epoch, batch and term for a loss that is not
        finite. The same states of ``generator`` and of the global one, on the same kind of device: the same numbers.
        """
        check_rows(benchmark, stage.rows)
        keeper = TrainingCheckpoint(
            checkpoint, identity(self.spec, self.published, stage, benchmark.content), self.spec.checkpoint_period_s
        )
        with arithmetic(self.spec.threads):
            return self.fit_stage(benchmark, stage, generator, keeper)

    def fit_stage(
        self, benchmark: Benchmark, stage: Stage, generator: torch.Generator, keeper: TrainingCheckpoint
    ) -> Fit:
        features = Features.of(benchmark, resolve_device(self.spec.device))
        trainer = self.trainer(features, stage, generator)
        alone = stage.number == 2 and not self.select
        space = stage.test if stage.number == 2 else stage.validation
        epochs = stage.chosen_epoch + 1 if alone else self.spec.epochs
        course = Course.resumed(keeper, trainer)
        label = f"train fvaegan on {self.spec.dataset}, seed {self.spec.seed}, stage {stage.number}"
        with Progress(label, epochs, "epochs") as progress:
            progress.advance(len(course.history.loss))
            for epoch in range(len(course.history.loss), epochs):
                terms = self.train_epoch(trainer, epoch, stage.number)
                found = None
                if not alone:
                    pair = self.classifiers(trainer, features, stage.classes, space.unseen, space)
                    found = self.evaluation(pair, features, space)
                course.record(terms, self.spec.learning_rate, found)
                if found is not None:
                    course.keep_if_best(state_of(trainer.networks, *pair), found)
                keeper.save(course.kept(trainer), last=epoch + 1 == epochs and not alone)
                progress.advance()
        if alone:
            pair = self.classifiers(trainer, features, stage.classes, space.unseen, None)
            course.state, course.epoch = state_of(trainer.networks, *pair), epochs - 1
        state = {name: value.cpu().numpy() for name, value in course.state.items()}
        calibrations = {self.outputs[0]: course.beta} if stage.number == 1 else {}
        return Fit(state, course.history, course.epoch, calibrations)

    def trainer(self, features: Features, stage: Stage, generator: torch.Generator) -> NetworkTrainer:
        rows = features.rows(stage.rows)
        return NetworkTrainer(
            rows, features.labels[rows.rows], features.vectors, self.settings, self.published, generator
        )

    def train_epoch(self, trainer: NetworkTrainer, epoch: int, stage: int) -> list[float]:
        try:
            return trainer.epoch(self.spec.batches_per_epoch)[0]
        except FloatingPointError as error:
            raise TrainingError(
                f"stage {stage}, epoch {epoch}, {error}, expected a finite number; lower [training] learning_rate or "
                "look at the features"
            ) from error

    def classifiers(
        self, trainer: NetworkTrainer, features: Features, seen: np.ndarray, unseen: np.ndarray,
        space: SearchSpace | None,
    ) -> tuple[Classifier, Classifier]:
        """-> (generalised, zero-shot), trained on a new synthetic set of the classes ``unseen``.

        ``space``: where a published selection evaluates them after each of their epochs; the last epoch is taken
        otherwise, and wherever there is no ``space``.
        """
        device, random = features.audio.device, trainer.random
        of_seen, of_unseen = (torch.from_numpy(np.sort(ids)).to(device) for ids in (seen, unseen))
        synthetic = Synthetic.draw(trainer.networks.G, features.vectors[of_unseen], self.settings, random)
        generalised, zero_shot = pools(trainer.rows, trainer.labels, of_seen, synthetic)
        outputs = torch.cat((of_seen, of_unseen))
        one = train(generalised, outputs, self.defects, self.settings, random)
        two = train(zero_shot, of_unseen, self.defects, self.settings, random)
        if space is None or not self.select:
            return last_of(one), last_of(two)
        rows, targets = features.rows(space.rows), features.labels[features.rows(space.rows).rows].cpu().numpy()
        return (
            best_of(one, lambda classifier: self.harmonic_mean(classifier, rows, targets, space)),
            best_of(two, lambda classifier: zero_shot_accuracy(classifier, rows, targets, space)),
        )

    def harmonic_mean(self, classifier: Classifier, rows: Rows, targets: np.ndarray, space: SearchSpace) -> float:
        found = metrics.evaluate(distances_to(classifier, rows, space.classes), targets, space.seen, space.unseen,
                                 self.betas)
        return found.at_best()["harmonic_mean"]

    def evaluation(
        self, pair: tuple[Classifier, Classifier], features: Features, space: SearchSpace
    ) -> metrics.Evaluation:
        rows = features.rows(space.rows)
        generalised, zero_shot = (distances_to(classifier, rows, space.classes) for classifier in pair)
        return metrics.evaluate(generalised, features.labels[rows.rows].cpu().numpy(), space.seen, space.unseen,
                                self.betas, zero_shot)

    def scores(
        self, state: State, audio: np.ndarray, video: np.ndarray, class_vectors: np.ndarray, classes: Sequence[int]
    ) -> Scores:
        """Distances of ``audio`` (N, Da) and ``video`` (N, Dv) to the class ids ``classes`` (C).

        ``embedding``: the unit rows [audio, video]; ``label_embedding``: the unit row that G makes of a class vector
        and no noise. Raises ArtefactError if a class has no output in the trained classifiers.
        """
        rows = Rows.of_all(torch.from_numpy(np.ascontiguousarray(audio, np.float32)),
                           torch.from_numpy(np.ascontiguousarray(video, np.float32)))
        pair = [classifier_of(state, name) for name in ("generalised", "zero_shot")]
        wanted = np.asarray(classes)
        stray = np.setdiff1d(wanted, pair[0].classes.numpy())
        if len(stray):
            raise ArtefactError(
                f"method fvaegan: found class {stray[0]} among the classes to score, expected some of the "
                f"{len(pair[0].classes)} that its classifiers were trained for; train this stage again"
            )
        generalised, zero_shot = (distances_to(classifier, rows, wanted) for classifier in pair)
        networks = Networks(rows.width, class_vectors.shape[1], self.settings, unpaired=self.defects)
        networks.load_state_dict({name: torch.from_numpy(np.asarray(state[name])) for name in networks.state_dict()})
        vectors = torch.from_numpy(np.ascontiguousarray(class_vectors, np.float32))
        with torch.no_grad():
            labels = normalise(networks.G(vectors.new_zeros(len(vectors), self.settings.latent_size), vectors))
        embedding = rows.take(torch.arange(len(rows)))
        return Scores({self.outputs[0]: generalised}, embedding.numpy(), labels.numpy(), zero_shot)


def check_rows(benchmark: Benchmark, rows: np.ndarray) -> None:
    """Raise ArtefactError at the first negative feature: a binary cross-entropy has no such target."""
    for name in ("audio", "video"):
        bad = (getattr(benchmark, name)[rows] < 0).any(axis=1)
        if bad.any():
            raise ArtefactError(
                f"{benchmark.where}: found a negative {name} feature of {benchmark.id[rows[bad.argmax()]]} "
                f"({bad.sum()} such videos), expected 0 or more, because the reconstruction loss of fvaegan is a "
                "binary cross-entropy; use another method for these features"
            )


def last_of(classifiers: Iterator[Classifier]) -> Classifier:
    *_, last = classifiers
    return last.copy()


def best_of(classifiers: Iterator[Classifier], value: Callable[[Classifier], float]) -> Classifier:
    """-> the one with the largest value, the last of them if several have it (released behaviour)."""
    best, kept = -math.inf, None
    for classifier in classifiers:
        found = value(classifier)
        if found >= best:
            best, kept = found, classifier.copy()
    assert kept is not None
    return kept


def distances_to(classifier: Classifier, rows: Rows, classes: np.ndarray) -> np.ndarray:
    """-> (N, C) negative log-probabilities; FAR for classes without an output (the seen ones of a zero-shot one)."""
    known = classifier.classes.cpu().numpy()
    found = -classifier.log_probabilities(rows).cpu().numpy()
    out = np.full((len(found), len(classes)), FAR, np.float32)
    order = np.argsort(known)
    at = np.searchsorted(known, classes, sorter=order).clip(max=len(known) - 1)
    has = known[order[at]] == classes
    out[:, has] = found[:, order[at[has]]]
    return out


def zero_shot_accuracy(classifier: Classifier, rows: Rows, targets: np.ndarray, space: SearchSpace) -> float:
    """-> mean recall over the unseen classes."""
    predicted = space.unseen[distances_to(classifier, rows, space.unseen).argmin(axis=1)]
    of_unseen = np.isin(targets, space.unseen)
    return float(metrics.mean_of(metrics.recalls(predicted[of_unseen], targets[of_unseen], space.unseen)))


def state_of(networks: Networks, generalised: Classifier, zero_shot: Classifier) -> dict[str, Tensor]:
    """-> a copy of everything that predicts or could be trained further, by name."""
    state = {name: value.detach().clone() for name, value in networks.state_dict().items()}
    for name, classifier in (("generalised", generalised), ("zero_shot", zero_shot)):
        state |= {f"{name}.classes": classifier.classes, f"{name}.weight": classifier.weight,
                  f"{name}.bias": classifier.bias}
    return state


def classifier_of(state: State, name: str) -> Classifier:
    parts = (state[f"{name}.{part}"] for part in ("classes", "weight", "bias"))
    classes, weight, bias = (torch.from_numpy(np.array(part)) for part in parts)
    return Classifier(classes.long(), weight.float(), bias.float())
