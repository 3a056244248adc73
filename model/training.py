"""One stage of an embedding method: epochs of ``model.trainer``, validation, selection, checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model import metrics
from model.batches import TrainingData
from model.checkpoint import TrainingCheckpoint, identity
from model.embedding import EmbeddingMethod, EmbeddingModel, Sizes, embed_rows, load_state, resolve_device
from model.metrics import Evaluation
from model.protocol import Benchmark, Fit, History, SearchSpace, Stage, State, validation_space
from model.samplers import ClassBalanced
from model.trainer import Trainer
from pipeline.errors import PipelineError
from pipeline.progress import Progress

NEVER_ZERO = 1e-10


class TrainingError(PipelineError):
    """A loss became NaN or infinite."""


@dataclass
class Plateau:
    """Learning rate that falls to a tenth when the score has not risen by 1e-4 of its best for more than 3 epochs.

    As torch.optim.lr_scheduler.ReduceLROnPlateau(mode="max", patience=3) does it.
    """

    rate: float
    best: float = -np.inf
    bad_epochs: int = 0

    def step(self, score: float) -> None:
        if score > self.best * (1 + 1e-4):
            self.best, self.bad_epochs = score, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > 3:
            self.bad_epochs = 0
            if self.rate - self.rate * 0.1 > 1e-8:
                self.rate *= 0.1


@contextlib.contextmanager
def arithmetic(threads: int) -> Iterator[None]:
    """Fix the number of CPU threads, on which the last bits depend, and flush denormals, which stall the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


def check_finite(terms: np.ndarray, names: tuple[str, ...], epoch: int, stage: int) -> None:
    """``terms`` (batches, terms). Raise TrainingError naming the first batch and term that is not finite."""
    bad = np.argwhere(~np.isfinite(terms))
    if len(bad):
        batch, term = bad[0]
        raise TrainingError(
            f"stage {stage}, epoch {epoch}, batch {batch}: loss term {names[term]} became {terms[batch, term]}, "
            "expected a finite number; lower [training] learning_rate or look at the features"
        )


def evaluate(
    model: EmbeddingModel, benchmark: Benchmark, features: tuple[Tensor, Tensor], space: SearchSpace,
    device: torch.device, outputs: tuple[str, ...],
) -> dict[str, Evaluation]:
    """-> output -> scores of the model as it is now, in evaluation mode, over all betas."""
    model.eval()
    with torch.no_grad():
        vectors = torch.from_numpy(benchmark.class_vector[space.classes]).to(device)
        embedded = embed_rows(model, *features, torch.from_numpy(space.rows), device)
        distances = model.distances(embedded, model.embed_classes(vectors))
    model.train()
    targets = benchmark.class_index[space.rows]
    return {
        name: metrics.evaluate(distances[name].cpu().numpy(), targets, space.seen, space.unseen) for name in outputs
    }


def calibrations(model: type[EmbeddingModel], found: dict[str, Evaluation], published: bool) -> dict[str, float]:
    """-> beta of each output for the test. ``published``: see the deviation ``calibration``."""
    betas = {name: found[name].beta for name in model.outputs}
    if published:
        betas[model.outputs[0]] = float(np.float32(np.mean([betas[name] for name in model.calibration_branches])))
        betas = {name: beta or NEVER_ZERO for name, beta in betas.items()}
    return betas


def calibrate(method: EmbeddingMethod, benchmark: Benchmark, state: State) -> dict[str, float]:
    """-> beta of each output for the test, of a trained state, on the validation videos."""
    device = resolve_device(method.spec.device)
    with arithmetic(method.spec.threads):
        model = method.build(Sizes(benchmark.audio.shape[1], benchmark.video.shape[1]))
        load_state(model, state)
        features = (torch.from_numpy(benchmark.audio), torch.from_numpy(benchmark.video))
        space = validation_space(benchmark)
        found = evaluate(model.to(device), benchmark, features, space, device, model.outputs)
    return calibrations(type(model), found, "calibration" in method.published)


def training_data(benchmark: Benchmark, stage: Stage) -> TrainingData:
    """-> all features, uncopied; only videos of the stage have a ``row`` that can be looked up."""
    row = np.full(len(benchmark.id), -1, dtype=np.int64)
    row[stage.rows] = np.searchsorted(stage.classes, benchmark.class_index[stage.rows])
    return TrainingData(*(torch.from_numpy(value) for value in (
        benchmark.audio, benchmark.video, row, benchmark.class_vector[stage.classes]
    )))


def train(
    method: EmbeddingMethod, benchmark: Benchmark, stage: Stage, generator: torch.Generator, checkpoint: Path | None
) -> Fit:
    """Train one stage of an embedding method, from its checkpoint if there is one."""
    spec = method.spec
    device = resolve_device(spec.device)
    # streams and graphs belong to the current GPU, whichever one the tensors are on
    current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with arithmetic(spec.threads), current:
        return Run(method, benchmark, stage, generator, checkpoint, device).go()


class Run:
    """One stage: epochs, selection, checkpoints."""

    def __init__(
        self, method: EmbeddingMethod, benchmark: Benchmark, stage: Stage, generator: torch.Generator,
        checkpoint: Path | None, device: torch.device,
    ):
        self.method, self.benchmark, self.stage = method, benchmark, stage
        self.spec, self.generator, self.device = method.spec, generator, device
        data = training_data(benchmark, stage)
        self.trainer = Trainer(
            method.build(Sizes(benchmark.audio.shape[1], benchmark.video.shape[1])), data, self.spec, device
        )
        self.features = (self.trainer.data.audio, self.trainer.data.video)
        rows = torch.from_numpy(stage.rows)
        balanced = ClassBalanced.of(data.row[rows])
        self.sampler = ClassBalanced(rows[balanced.order], balanced.start, balanced.count)
        self.plateau = Plateau(self.spec.learning_rate)
        self.history = History()
        self.chosen_epoch, self.best = -1, -np.inf
        self.best_state: dict[str, Tensor] = {}
        self.calibrations: dict[str, float] = {}
        self.checkpoint = TrainingCheckpoint(
            checkpoint, identity(self.spec, method.published, stage, benchmark.content), self.spec.checkpoint_period_s
        )

    def go(self) -> Fit:
        first = self.resume()
        label = f"train {self.spec.method} on {self.spec.dataset}, seed {self.spec.seed}, stage {self.stage.number}"
        with Progress(label, self.stage.epochs * self.spec.batches_per_epoch, "batches") as progress:
            progress.advance(first * self.spec.batches_per_epoch)
            for epoch in range(first, self.stage.epochs):
                self.epoch(epoch, progress)
                self.checkpoint.save(self.progress_state(epoch + 1), last=epoch + 1 == self.stage.epochs)
        state = self.best_state if self.stage.number == 1 else self.trainer.model.state_dict()
        arrays = {name: value.detach().cpu().numpy().copy() for name, value in state.items()}
        return Fit(arrays, self.history, self.chosen_epoch, self.calibrations)

    def epoch(self, epoch: int, progress: Progress) -> None:
        rates = self.stage.learning_rates
        rate = rates[epoch] if rates else self.plateau.rate
        self.trainer.set_rate(rate)
        index = self.sampler.epoch(
            self.spec.batches_per_epoch, self.spec.batch_size, self.generator, self.trainer.model.negatives
        )
        terms = self.trainer.epoch(index, progress.advance)
        check_finite(terms, self.trainer.names, epoch, self.stage.number)
        history = self.history
        history.terms = self.trainer.names
        history.term.append(terms.mean(axis=0).tolist())
        history.loss.append(float(terms.sum(axis=1).mean()))
        history.learning_rate.append(rate)
        self.select(epoch)
        progress.note(f", loss {history.loss[-1]:.3f}, HM {history.harmonic_mean[-1]:.2f}")

    def select(self, epoch: int) -> None:
        """Validate, and keep the epoch if its HM is strictly the best. With given rates nothing asks for it."""
        history, model = self.history, self.trainer.model
        values = dict.fromkeys((*metrics.MEASURES, "calibration"), float("nan"))
        if not self.stage.learning_rates:
            standard = model.outputs[0]
            found = self.evaluation((standard,))[standard]
            values = {name: 100 * value for name, value in found.at_best().items()} | {"calibration": found.beta}
            self.plateau.step(float(found.harmonic_mean[found.best]))
            if self.stage.number == 1 and values["harmonic_mean"] > self.best:
                self.best, self.chosen_epoch = values["harmonic_mean"], epoch
                self.best_state = {name: value.clone() for name, value in model.state_dict().items()}
                self.calibrations = calibrations(
                    type(model), self.evaluation(model.outputs), "calibration" in self.method.published
                )
        if self.stage.number == 2:
            self.chosen_epoch = epoch
        for name, value in values.items():
            getattr(history, name).append(value)

    def evaluation(self, outputs: tuple[str, ...]) -> dict[str, Evaluation]:
        return evaluate(
            self.trainer.model, self.benchmark, self.features, self.stage.validation, self.device, outputs
        )

    def progress_state(self, epoch: int) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "epoch": epoch, "model": self.trainer.model.state_dict(), "optimiser": self.trainer.optimiser.state_dict(),
            "plateau": vars(self.plateau), "history": vars(self.history), "chosen_epoch": self.chosen_epoch,
            "best": self.best, "best_state": self.best_state, "calibrations": self.calibrations,
            "sampler": self.generator.get_state(), "random": torch.get_rng_state(), "cuda_random": cuda,
        }

    def resume(self) -> int:
        """Take up the checkpoint; -> the epoch to go on with."""
        kept = self.checkpoint.load()
        if kept is None:
            return 0
        self.trainer.model.load_state_dict(kept["model"])
        self.trainer.optimiser.load_state_dict(kept["optimiser"])
        for group in self.trainer.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):  # comes from the file on the CPU; a graph reads it on the device
                group["lr"] = group["lr"].to(self.device)
        self.plateau = Plateau(**kept["plateau"])
        self.history = History(**{**kept["history"], "terms": tuple(kept["history"]["terms"])})
        self.chosen_epoch, self.best = kept["chosen_epoch"], kept["best"]
        self.best_state = {name: value.to(self.device) for name, value in kept["best_state"].items()}
        self.calibrations = kept["calibrations"]
        self.generator.set_state(kept["sampler"])
        torch.set_rng_state(kept["random"])
        if kept["cuda_random"] is not None:
            torch.cuda.set_rng_state(kept["cuda_random"], self.device)
        return kept["epoch"]
