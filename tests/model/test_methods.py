"""One conformance suite over all registered methods, from benchmark file to scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model import evaluation, registry, stages
from model.complexity import forward_gflops, parameter_count
from model.embedding import EmbeddingModel, Sizes
from model.metrics import BETAS, MetricError
from pipeline import h5, schemas
from pipeline.deviations import DEVIATIONS
from pipeline.errors import ArtefactError
from tests.model import tiny

ALL = frozenset(DEVIATIONS)


def run(folder, spec, published, benchmark=None):
    """Both stages and the evaluation -> path of the scores."""
    given = tiny.write(folder / "b.h5", benchmark)
    stages.train_stage1(given, spec, published, h5.Output(folder / "1.h5", schemas.STAGE1), folder / "1.pt")
    stages.train_stage2(given, folder / "1.h5", spec, published, h5.Output(folder / "2.h5", schemas.STAGE2),
                        folder / "2.pt")
    output = h5.Output(folder / "s.h5", schemas.SCORES)
    evaluation.evaluate(given, folder / "1.h5", folder / "2.h5", spec, published, output)
    return folder / "s.h5"


@pytest.mark.parametrize("published", [frozenset(), ALL], ids=["corrected", "published"])
@pytest.mark.parametrize("method", registry.names())
def test_from_benchmark_to_scores(method, published, tmp_path):
    spec = tiny.spec(method, epochs=2)
    path = run(tmp_path, spec, published)
    benchmark = tiny.benchmark()
    assert not list(tmp_path.glob("*.pt"))
    with h5.read(tmp_path / "1.h5", schemas.STAGE1) as file:
        first = file.attributes
        assert len(file["loss"]) == 2 and np.isfinite(file["term"]).all() and np.isfinite(file["loss"]).all()
        assert 0 <= first["chosen_epoch"] < 2
        if "calibration" not in published:
            assert set(np.float32(list(first["calibrations"].values()))) <= set(np.float32(BETAS))
    with h5.read(tmp_path / "2.h5", schemas.STAGE2) as file:
        if not (method == "fvaegan" and "fvaegan_selection" in published):
            assert file.attributes["epochs"] == first["chosen_epoch"] + 1
        assert file.attributes["parameters"] == first["parameters"] or method == "fvaegan"
    with h5.read(path, schemas.SCORES) as file:
        assert (file.attributes["gflops"] is None) == (method == "fvaegan")
        assert tuple(file["output"]) == stages.create(spec, published).outputs
        for name in ("seen", "unseen", "harmonic_mean", "zero_shot"):
            assert ((file[name] >= 0) & (file[name] <= 100)).all()
        test = benchmark.rows("test_seen", "test_unseen")
        assert file["id"].tolist() == benchmark.id[test].tolist()
        assert file["target"].tolist() == benchmark.class_index[test].tolist()
        unseen = file["class_unseen"]
        assert file["class_index"][unseen].tolist() == benchmark.classes("test_unseen").tolist()
        assert file["class_name"].tolist() == benchmark.class_name[file["class_index"]].tolist()
        assert file.attributes["video_list_sha256"] == "tiny list"
        np.testing.assert_allclose(np.nanmean(file["class_recall"][unseen]), file["unseen"][0])
        np.testing.assert_allclose(np.nanmean(file["class_zero_shot"]), file["zero_shot"][0])
        assert (file["confusion"].sum(1) == file["class_videos"]).all()
        assert set(file["predicted_zero_shot"]) <= set(benchmark.classes("test_unseen"))
        assert file["embedding"].shape == (len(test), file["label_embedding"].shape[1])
        assert file.attributes["empty_classes"] == []


@pytest.mark.parametrize("method", registry.names())
def test_scores_do_not_depend_on_company_or_order_of_videos(method):
    benchmark = tiny.benchmark()
    spec = tiny.spec(method, epochs=1)
    stage = stages.stage_2(benchmark, 0, [1e-3], frozenset())
    made = stages.create(spec, frozenset())
    state = stages.fit(benchmark, stage, spec, frozenset(), None).state
    classes = benchmark.classes("train", "val_unseen", "test_unseen")
    vectors = benchmark.class_vector[classes]
    whole = made.scores(state, benchmark.audio, benchmark.video, vectors, classes.tolist())
    some = np.array([5, 3, 40])
    part = made.scores(state, benchmark.audio[some], benchmark.video[some], vectors, classes.tolist())
    assert tuple(whole.distances) == made.outputs
    for name, distances in whole.distances.items():
        assert distances.shape == (len(benchmark.id), len(classes)) and np.isfinite(distances).all()
        np.testing.assert_allclose(part.distances[name], distances[some], atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("method", [name for name in registry.names() if name != "fvaegan"])
def test_the_loss_falls(method):
    benchmark = tiny.benchmark()
    spec = tiny.spec(method, epochs=3, batches_per_epoch=10, encoder_dropout=0.0, learning_rate=3e-3)
    loss = stages.fit(benchmark, stages.stage_1(benchmark, spec), spec, frozenset(), None).history.loss
    assert loss[-1] < 0.95 * loss[0]


def parameters(method, audio=512, video=512):
    spec = registry.specification(method, "ucf", "selavi", 0)
    model = registry.load(method)(Sizes(audio, video), spec, ALL)
    assert isinstance(model, EmbeddingModel)
    return sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize("method, count", [
    ("avca", 1_693_108), ("avgzslnet", 1_319_872), ("ale", 307_200), ("sje", 307_200), ("devise", 307_200),
    ("cjme", 1_299_157), ("apn", 614_400),
])
def test_parameter_counts_of_the_released_models(method, count):
    assert parameters(method) == count
    if method == "avca":
        assert parameters(method, 128, 4096) == 3_331_508


@pytest.mark.parametrize("method, gflops, elsewhere", [
    ("avca", 2.341, 512 * 3 * 4 * 100 * 2),  # products of queries with keys, of weights with values: no matrices here
    ("avgzslnet", 1.379, 0),
    ("ale", 0.321, 256 * 1024 * 300), ("sje", 0.321, 256 * 1024 * 300), ("devise", 0.321, 256 * 1024 * 300),
    ("apn", 0.327, 0),
    ("cjme", 1.320, -42 * (300 * 300 + 300 * 64) - 2 * 256 * 64 * 42),  # the classes, and the loss
])
def test_gflops_of_the_released_models(method, gflops, elsewhere):
    """``elsewhere``: multiplications that the released forward pass has and this does not."""
    before = torch.get_rng_state()
    found = forward_gflops(registry.specification(method, "ucf", "selavi", 0), ALL, 512, 512, 42)
    assert found is not None
    assert found + 2 * elsewhere / 1e9 == pytest.approx(gflops, abs=6e-4)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_method_that_is_no_embedding_has_no_gflops_and_its_class_ids_are_no_parameters():
    assert forward_gflops(registry.specification("fvaegan", "ucf", "selavi", 0), ALL, 512, 512, 42) is None
    state = {"G.fc1.weight": np.zeros((3, 4)), "generalised.classes": np.arange(5), "zero_shot.classes": np.arange(2),
             "norm.running_mean": np.zeros(3), "generalised.bias": np.zeros(5)}
    assert parameter_count(state) == 17


def test_the_released_optimiser_does_not_get_the_positional_offset():
    spec = registry.specification("avca", "ucf", "selavi", 0)
    for published, count in ((ALL, 1_692_508), (frozenset(), 1_693_108)):
        model = registry.load("avca")(Sizes(512, 512), spec, published)
        assert sum(value.numel() for value in model.trained()) == count


def test_a_class_without_test_videos_is_named_or_an_error(tmp_path):
    benchmark = tiny.benchmark()
    gone = benchmark.classes("test_unseen")[0]
    subset = np.where((benchmark.class_index == gone), "", benchmark.subset)
    given = tiny.benchmark(subset=subset)
    path = run(tmp_path, tiny.spec(epochs=1), frozenset(), given)
    with h5.read(path, schemas.SCORES) as file:
        assert file.attributes["empty_classes"] == [str(benchmark.class_name[gone])]
        assert np.isnan(file["class_recall"][file["class_index"] == gone]).all() and np.isfinite(file["unseen"]).all()
    strict = tiny.spec(epochs=1, strict=True)
    output = h5.Output(tmp_path / "t.h5", schemas.SCORES)
    with pytest.raises(MetricError, match=rf"found no video of class {gone}, expected one or more of each under"):
        evaluation.evaluate(tmp_path / "b.h5", tmp_path / "1.h5", tmp_path / "2.h5", strict, frozenset(), output)
    assert not (tmp_path / "t.h5").exists()


def test_stages_of_another_training_are_refused(tmp_path):
    run(tmp_path, tiny.spec(epochs=1), frozenset())
    other = tiny.spec(epochs=1, seed=9)
    with pytest.raises(ArtefactError, match=r"1.h5: found method avca with seed 0, expected avca with seed 9"):
        stages.train_stage2(tmp_path / "b.h5", tmp_path / "1.h5", other, frozenset(), None)


def test_the_state_in_an_artefact_is_the_state_that_was_trained(tmp_path):
    spec = tiny.spec(epochs=1)
    run(tmp_path, spec, frozenset())
    benchmark = tiny.benchmark()
    with torch.random.fork_rng():
        done = stages.fit(benchmark, stages.stage_1(benchmark, spec), spec, frozenset(), None)
    kept = stages.read_state(tmp_path / "1.h5", schemas.STAGE1)
    assert list(kept) == list(done.state)
    for name, value in done.state.items():
        np.testing.assert_array_equal(kept[name], value)
