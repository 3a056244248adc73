"""The two stages of training (section 4.1), from a benchmark file to artefacts.

Stage 1 trains on tr, is validated on v(S) + v(U) after every epoch, and fixes the epoch and the calibration. Stage 2
trains afresh on tr + v(S) + v(U). The released code trains stage 2 for all epochs and then takes the checkpoint with
stage 1's 0-based epoch number; epochs after it are never used, so they are not trained here.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model import registry
from model.complexity import parameter_count
from model.embedding import EmbeddingMethod, EmbeddingModel
from model.protocol import (
    Benchmark,
    Fit,
    Method,
    Stage,
    State,
    evaluation_space,
    read_benchmark,
    validation_space,
)
from model.settings import Spec
from pipeline import h5, schemas
from pipeline.errors import ArtefactError
from pipeline.results import HISTORY_COLUMNS

logger = logging.getLogger(__name__)


def create(spec: Spec, published: frozenset[str]) -> Method:
    """-> the method of a specification."""
    found = registry.load(spec.method)
    if issubclass(found, EmbeddingModel):
        return EmbeddingMethod(found, spec, published)  # type: ignore[return-value]
    return found(spec, published)


def stage_1(benchmark: Benchmark, spec: Spec) -> Stage:
    return Stage(1, benchmark.rows("train"), benchmark.classes("train"), validation_space(benchmark),
                 evaluation_space(benchmark), spec.epochs)


def stage_2(
    benchmark: Benchmark, chosen_epoch: int, learning_rates: Sequence[float], published: frozenset[str]
) -> Stage:
    """``learning_rates``: stage 1's, epoch by epoch; they are followed unless ``stage2_schedule`` is published."""
    epochs = chosen_epoch + 1
    rates = () if "stage2_schedule" in published else tuple(learning_rates[:epochs])
    return Stage(2, benchmark.rows("train", "val_seen", "val_unseen"), benchmark.classes("train", "val_unseen"),
                 validation_space(benchmark), evaluation_space(benchmark), epochs, rates, chosen_epoch)


def fit(benchmark: Benchmark, stage: Stage, spec: Spec, published: frozenset[str], checkpoint: Path | None) -> Fit:
    """Train one stage with generators seeded here: the global one for weights and dropout, one for the batches."""
    if spec.origin.startswith("published for"):
        where = f"{spec.method} on {spec.dataset} with {spec.feature_set}"
        logger.warning("%s: there are no published hyper-parameters; these are those %s", where, spec.origin)
    torch.manual_seed(spec.seed)
    return create(spec, published).fit(benchmark, stage, torch.Generator().manual_seed(spec.seed + 1), checkpoint)


def train_stage1(
    benchmark_path: Path, spec: Spec, published: frozenset[str], output: h5.Output, checkpoint_path: Path | None = None
) -> None:
    """Train stage 1 and write schemas.STAGE1. ``checkpoint_path`` is removed once that is done.

    Raises ArtefactError (features or split), TrainingError (a loss became NaN), MetricError.
    """
    benchmark = read_benchmark(benchmark_path, spec.feature_set)
    done = fit(benchmark, stage_1(benchmark, spec), spec, published, checkpoint_path)
    write_fit(output, done, spec, {"chosen_epoch": done.chosen_epoch, "calibrations": dict(done.calibrations),
                                   "calibration": next(iter(done.calibrations.values()), 0.0)})
    forget(checkpoint_path)


def train_stage2(
    benchmark_path: Path, stage1_path: Path, spec: Spec, published: frozenset[str], output: h5.Output,
    checkpoint_path: Path | None = None,
) -> None:
    """Train stage 2 as long as stage 1 says and write schemas.STAGE2. Errors as for ``train_stage1``."""
    benchmark = read_benchmark(benchmark_path, spec.feature_set)
    with h5.read(stage1_path, schemas.STAGE1) as file:
        chosen, rates = file.attributes["chosen_epoch"], file["learning_rate"].tolist()
        check_same_training(stage1_path, file.attributes, spec)
    stage = stage_2(benchmark, chosen, rates, published)
    done = fit(benchmark, stage, spec, published, checkpoint_path)
    write_fit(output, done, spec, {"chosen_epoch": done.chosen_epoch, "epochs": len(done.history.loss)})
    forget(checkpoint_path)


def check_same_training(path: Path, attributes: dict[str, Any], spec: Spec) -> None:
    """Raise ArtefactError if a stage was trained with another method or seed than ``spec`` says."""
    found = (attributes["method"], attributes["seed"])
    if found != (spec.method, spec.seed):
        raise ArtefactError(
            f"{path}: found method {found[0]} with seed {found[1]}, expected {spec.method} with seed {spec.seed}; "
            "give the stages of one training"
        )


def forget(checkpoint: Path | None) -> None:
    if checkpoint is not None:
        Path(checkpoint).unlink(missing_ok=True)


def write_fit(output: h5.Output, done: Fit, spec: Spec, attributes: dict[str, Any]) -> None:
    history = done.history
    epochs = len(history.loss)
    with output.create() as file:
        for name in HISTORY_COLUMNS:
            file.write(name, np.asarray(getattr(history, name), dtype=np.float64))
        file.write("term_name", list(history.terms))
        file.write("term", np.asarray(history.term, dtype=np.float64).reshape(epochs, len(history.terms)))
        write_state(file, done.state)
        file.attributes.update(
            attributes, method=spec.method, seed=spec.seed, spec=dataclasses.asdict(spec),
            parameters=parameter_count(done.state),
        )


def write_state(file: h5.Writer, state: State) -> None:
    arrays = [np.asarray(value) for value in state.values()]
    offsets = np.cumsum([0] + [array.size for array in arrays])
    file.write("weight_name", list(state))
    file.write("weight_shape", [json.dumps(array.shape) for array in arrays])
    file.write("weight_offset", offsets.astype(np.int64))
    values = [array.ravel().astype(np.float32) for array in arrays]
    file.write("weight_value", np.concatenate(values) if values else np.zeros(0, np.float32))


def read_state(path: Path, schema: h5.Schema) -> State:
    """-> the arrays of a stage's artefact, float32."""
    with h5.read(path, schema) as file:
        names, shapes, offsets, values = (
            file[name] for name in ("weight_name", "weight_shape", "weight_offset", "weight_value")
        )
    return {
        str(name): values[offsets[i] : offsets[i + 1]].reshape(json.loads(str(shapes[i])))
        for i, name in enumerate(names)
    }
