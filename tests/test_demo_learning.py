"""The demo shows zero-shot learning: on stored features of its videos, with its label vectors and its settings."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from model import evaluation, registry, stages
from model.protocol import Benchmark
from pipeline import schemas

STORED = Path(__file__).parent / "golden" / "demo"
FEATURE_SETS = ("selavi", "c3d_vggish")
SEEDS = (0, 1, 2)


def stored(feature_set: str) -> Benchmark:
    """-> the demo's benchmark file, features in half precision."""
    with np.load(STORED / f"{feature_set}.npz") as file:
        columns = {name: file[name] for name in file.files}
    subset = np.array(schemas.SUBSETS)[columns.pop("subset")]
    role = np.array(schemas.ROLES)[columns.pop("class_role")]
    for name in ("audio", "video", "class_vector"):
        columns[name] = columns[name].astype(np.float32)
    columns["class_index"] = columns["class_index"].astype(np.int64)
    return Benchmark(**columns, subset=subset, class_role=role)


def trained(benchmark: Benchmark, feature_set: str, seed: int):
    """-> (spec, state of stage 2, calibrations of stage 1), as the tasks would train them."""
    spec = registry.specification("avca", "demo", feature_set, seed)
    first = stages.fit(benchmark, stages.stage_1(benchmark, spec), spec, frozenset(), None)
    second = stages.stage_2(benchmark, first.chosen_epoch, first.history.learning_rate, frozenset())
    return spec, stages.fit(benchmark, second, spec, frozenset(), None).state, dict(first.calibrations)


def with_vectors_of(benchmark: Benchmark, order: tuple[int, ...]) -> Benchmark:
    """-> the benchmark with the vectors of its unseen test classes in another order."""
    from dataclasses import replace

    unseen = benchmark.classes("test_unseen")
    vectors = benchmark.class_vector.copy()
    vectors[unseen] = vectors[unseen[list(order)]]
    return replace(benchmark, class_vector=vectors)


def measures(benchmark: Benchmark, spec, state, calibrations) -> tuple[float, float]:
    """-> (HM, ZSL) in per cent of the standard output."""
    result = evaluation.evaluate_state(benchmark, spec, frozenset(), state, calibrations)
    best = next(iter(result.at.values()))
    return 100 * float(best.harmonic_mean[0]), 100 * float(best.zero_shot)


@pytest.mark.slow
@pytest.mark.parametrize("feature_set", FEATURE_SETS)
def test_unseen_classes_are_named_and_only_by_their_own_vectors(feature_set):
    benchmark = stored(feature_set)
    unseen = len(benchmark.classes("test_unseen"))
    classes = unseen + len(benchmark.classes("train", "val_unseen"))
    orders = [order for order in permutations(range(unseen)) if order != tuple(range(unseen))]
    own, permuted = [], []
    for seed in SEEDS:
        model = trained(benchmark, feature_set, seed)
        own.append(measures(benchmark, *model))
        permuted.append(np.mean([measures(with_vectors_of(benchmark, order), *model)[1] for order in orders]))
    harmonic_mean, zero_shot = np.mean(own, axis=0)
    assert zero_shot >= 2 * 100 / unseen, own
    assert harmonic_mean >= 2 * 100 / classes, own
    assert abs(np.mean(permuted) - 100 / unseen) < 10, permuted
