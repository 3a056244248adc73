"""The final evaluation: the only place where test videos are scored, once, with what stage 1 fixed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model import metrics
from model.metrics import BETAS, Evaluation
from model.protocol import Benchmark, Scores, State, evaluation_space, read_benchmark
from model.settings import Spec
from pipeline import h5, schemas


@dataclass(frozen=True)
class Result:
    """``at``: output -> scores at its own beta; ``curve``: of the standard output at every beta of the grid."""

    scores: Scores
    at: dict[str, Evaluation]
    curve: Evaluation


def evaluate_state(
    benchmark: Benchmark, spec: Spec, published: frozenset[str], state: State, calibrations: dict[str, float],
) -> Result:
    """Score the test videos of ``benchmark`` with a trained state. ``calibrations``: beta of each output.

    An output without one (a method that is not calibrated) is scored at beta 0. Raises MetricError for a class without
    test videos if ``spec.strict``.
    """
    from model.stages import create
    from model.training import arithmetic

    space = evaluation_space(benchmark)
    with arithmetic(spec.threads):
        scores = create(spec, published).scores(
            state, benchmark.audio[space.rows], benchmark.video[space.rows], benchmark.class_vector[space.classes],
            space.classes.tolist(),
        )
    targets = benchmark.class_index[space.rows]
    at = {}
    for name, distances in scores.distances.items():
        betas = np.array([calibrations.get(name, 0.0)])
        at[name] = metrics.evaluate(
            distances, targets, space.seen, space.unseen, betas, scores.zero_shot, strict=spec.strict
        )
    standard = next(iter(scores.distances.values()))
    curve = metrics.evaluate(standard, targets, space.seen, space.unseen, BETAS, scores.zero_shot)
    return Result(scores, at, curve)


def evaluate(
    benchmark_path: Path, stage1_path: Path, stage2_path: Path, spec: Spec, published: frozenset[str],
    output: h5.Output,
) -> None:
    """Score stage 2's model on the test videos with stage 1's calibration and write schemas.SCORES.

    Attributes: ``empty_classes`` (names of classes without test videos, left out of the means), ``parameters``,
    ``gflops`` (see model.complexity; None for f-VAEGAN), ``chosen_epoch``. Raises MetricError for an empty class if
    ``spec.strict``, ArtefactError for stages of another training.
    """
    from model.stages import check_same_training, read_state

    benchmark = read_benchmark(benchmark_path, spec.feature_set)
    with h5.read(stage1_path, schemas.STAGE1) as file:
        check_same_training(stage1_path, file.attributes, spec)
        calibrations = file.attributes["calibrations"]
    with h5.read(stage2_path, schemas.STAGE2) as file:
        check_same_training(stage2_path, file.attributes, spec)
        facts = {"chosen_epoch": file.attributes["chosen_epoch"]}
    score(benchmark, spec, published, read_state(stage2_path, schemas.STAGE2), calibrations, facts, output)


def evaluate_checkpoints(
    benchmark_path: Path, stage1_path: Path, stage2_path: Path, spec: Spec, published: frozenset[str],
    output: h5.Output,
) -> None:
    """The same for two released ``*_score.pt``.

    As in the released evaluation, the calibration is found on the validation videos with the first stage's model.
    Attributes: those of ``evaluate``, and ``imported_from``. Raises WeightsError for what is no such file or belongs to
    another method or width, PipelineError for a method without released checkpoints.
    """
    from model.checkpoint import import_published, released_model
    from model.embedding import EmbeddingMethod
    from model.training import calibrate

    benchmark = read_benchmark(benchmark_path, spec.feature_set)
    spec = dataclasses.replace(spec, origin="those of a checkpoint, not known")
    widths = benchmark.audio.shape[1], benchmark.video.shape[1]
    method = EmbeddingMethod(released_model(spec.method), spec, published)
    calibrations = calibrate(method, benchmark, import_published(stage1_path, spec, published, *widths)[0])
    state, epoch = import_published(stage2_path, spec, published, *widths)
    facts = {"chosen_epoch": epoch, "imported_from": [stage1_path.name, stage2_path.name]}
    score(benchmark, spec, published, state, calibrations, facts, output)


def score(
    benchmark: Benchmark, spec: Spec, published: frozenset[str], state: State, calibrations: dict[str, float],
    facts: dict[str, Any], output: h5.Output,
) -> None:
    """Score ``state`` on the test videos and write schemas.SCORES, with ``facts`` and the size of the model."""
    from model.complexity import forward_gflops, parameter_count

    widths = benchmark.audio.shape[1], benchmark.video.shape[1]
    gflops = forward_gflops(spec, published, *widths, len(benchmark.classes("train", "val_unseen")))
    result = evaluate_state(benchmark, spec, published, state, calibrations)
    write_scores(output, benchmark, spec, result, {**facts, "parameters": parameter_count(state), "gflops": gflops})


def write_scores(output: h5.Output, benchmark: Benchmark, spec: Spec, result: Result, facts: dict) -> None:
    space = evaluation_space(benchmark)
    targets = benchmark.class_index[space.rows]
    standard = next(iter(result.at.values()))
    predicted = standard.predictions.generalised[0]
    recall = metrics.recalls(predicted, targets, space.classes)
    zero_shot = metrics.recalls(standard.predictions.zero_shot, targets, space.classes)
    unseen = np.isin(space.classes, space.unseen)
    with output.create() as file:
        file.write("output", list(result.at))
        for name in metrics.MEASURES:
            file.write(name, np.array([100 * found.at_best()[name] for found in result.at.values()]))
        file.write("calibration", np.array([found.beta for found in result.at.values()]))
        file.write("beta", BETAS)
        file.write("curve_seen", 100 * result.curve.seen)
        file.write("curve_unseen", 100 * result.curve.unseen)
        file.write("class_index", space.classes.astype(np.int32))
        file.write("class_name", benchmark.class_name[space.classes].tolist())
        file.write("class_unseen", unseen)
        file.write("class_videos", np.bincount(np.searchsorted(space.classes, targets), minlength=len(space.classes)))
        file.write("class_recall", 100 * recall)
        file.write("class_zero_shot", np.where(unseen, 100 * zero_shot, np.nan))
        file.write("confusion", metrics.confusion(predicted, targets, space.classes).astype(np.int32))
        file.write("id", benchmark.id[space.rows].tolist())
        file.write("target", targets.astype(np.int32))
        file.write("predicted", predicted.astype(np.int32))
        file.write("predicted_zero_shot", standard.predictions.zero_shot.astype(np.int32))
        file.write("embedding", result.scores.embedding.astype(np.float32))
        file.write("label_embedding", result.scores.label_embedding.astype(np.float32))
        file.attributes.update(
            facts, method=spec.method, seed=spec.seed, spec=dataclasses.asdict(spec),
            empty_classes=[str(benchmark.class_name[k]) for k in standard.empty],
            video_list_sha256=benchmark.video_list,
        )
