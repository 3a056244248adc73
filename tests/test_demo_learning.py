"""The demo shows zero-shot learning: on stored features of its videos, with its label vectors and its settings."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from extractors import base
from extractors import registry as extractor_registry
from extractors.settings import ExtractionSettings, WeightsSettings
from model import evaluation, registry, stages
from model.protocol import Benchmark
from pipeline import decoding, demo, h5, pooling, schemas
from tests.synthetic import make_acquired

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


@pytest.mark.slow
@pytest.mark.parametrize("feature_set", FEATURE_SETS)
def test_the_stored_features_are_those_that_the_demo_makes(feature_set, tmp_path):
    """One video, by the functions that the tasks call: rendered, decoded, extracted and pooled."""
    benchmark, row, corrected = stored(feature_set), 100, frozenset()
    demo.write_video(tmp_path / "video.mp4", str(benchmark.id[row]), demo.DemoSettings().seed)
    acquired = make_acquired(tmp_path / "acquired.h5", [tmp_path / "video.mp4"])
    decoded, clips, videos = (
        h5.Output(tmp_path / f"{schema.name}.h5", schema)
        for schema in (schemas.DECODED, schemas.CLIP_FEATURES, schemas.VIDEO_FEATURES)
    )
    plans = extractor_registry.plans(feature_set, corrected, "demo")
    settings = decoding.DecodingSettings()
    decoding.decode_shard(acquired, 0, (plans["video"], plans["audio"]), settings, corrected, decoded)
    base.extract(
        decoded.path, feature_set, WeightsSettings(), ExtractionSettings(device="cpu"), corrected, "demo", clips
    )
    pooling.pool([clips.path], videos)
    with h5.read(videos.path, schemas.VIDEO_FEATURES) as file:
        for name, kept in (("audio", benchmark.audio[row]), ("video", benchmark.video[row])):
            np.testing.assert_allclose(file[name][0], kept, rtol=1e-3, atol=1e-3 * np.abs(kept).max())
