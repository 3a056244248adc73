"""The released checkpoints: their keys, there and back, and what is no such file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from model import evaluation, registry, stages
from model.checkpoint import export_published, import_published, to_published
from model.embedding import EmbeddingMethod, EmbeddingModel, Sizes, state_of
from model.stages import create
from pipeline import h5, schemas
from pipeline.deviations import DEVIATIONS
from pipeline.errors import PipelineError, WeightsError
from tests.model import tiny

ALL = frozenset(DEVIATIONS)
KEYS = Path(__file__).parents[1] / "golden" / "model" / "state_dict_keys.csv"
RELEASED = {"avca": "AVCA", "ale": "ALE", "sje": "SJE", "devise": "DEVISE", "apn": "APN", "cjme": "CJME",
            "avgzslnet": "AVGZSLNet"}
SETS = {"set_a": Sizes(512, 512), "set_b": Sizes(128, 4096)}


def released_shapes(model, of):
    with open(KEYS, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == model and row["set"] == of]
    return {row["key"]: () if row["shape"] == "scalar" else tuple(map(int, row["shape"].split("x"))) for row in rows}


def fresh(method, sizes=None, small=False):
    spec = tiny.spec(method) if small else registry.specification(method, "ucf", "selavi", 0)
    model = registry.load(method)(sizes or Sizes(12, 16), spec, ALL)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=torch.Generator().manual_seed(len(name))) + 0.1)
        else:
            value.fill_(17)
    return spec, model


@pytest.mark.parametrize("of", SETS)
@pytest.mark.parametrize("method", RELEASED)
def test_keys_and_shapes_are_the_released_ones(method, of):
    _, model = fresh(method, SETS[of])
    found = {key: value.shape for key, value in to_published(type(model), state_of(model)).items()}
    assert found == released_shapes(RELEASED[method], of)


@pytest.mark.parametrize("method", RELEASED)
def test_there_and_back(method, tmp_path):
    spec, model = fresh(method, small=True)
    state = state_of(model)
    path = tmp_path / "x_score.pt"
    export_published(path, spec, state, epoch=4)
    content = torch.load(path, weights_only=True)
    assert content["epoch"] == 5 and content["metric"] == "score" and set(content) >= {"model", "optimizer"}
    back, epoch = import_published(path, spec, ALL, 12, 16)
    assert epoch == 4
    assert back.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].dtype == value.dtype
    method_of = create(spec, ALL)
    assert isinstance(method_of, EmbeddingMethod)
    benchmark = tiny.benchmark()
    scores = method_of.scores(back, benchmark.audio, benchmark.video, benchmark.class_vector, range(10))
    assert np.isfinite(next(iter(scores.distances.values()))).all()


def test_a_checkpoint_of_a_data_parallel_model_loads(tmp_path):
    spec, model = fresh("sje", small=True)
    torch.save({"model": {"module.bilinear.weight": model.bilinear.weight.detach()}}, tmp_path / "x.pt")
    assert import_published(tmp_path / "x.pt", spec, ALL, 12, 16)[0].keys() == {"bilinear.weight"}


def test_importing_leaves_the_global_generator_alone(tmp_path):
    spec, model = fresh("avca", small=True)
    export_published(tmp_path / "x.pt", spec, state_of(model), 0)
    before = torch.get_rng_state()
    import_published(tmp_path / "x.pt", spec, ALL, 12, 16)
    assert torch.equal(before, torch.get_rng_state())


class Evil:
    def __reduce__(self):
        return print, ("this must never run",)


def test_what_is_no_such_file(tmp_path, capsys):
    spec, model = fresh("avca", small=True)
    path = tmp_path / "x.pt"
    for content, message in (
        ({"model": Evil()}, r"x.pt: UnpicklingError on reading it as plain tensors; expected a released \*_score"),
        ({"weights": {}}, r"x.pt: found no entry 'model', expected a released \*_score.pt"),
        ({"model": {"other": torch.zeros(2)}}, r"x.pt: found 1 tensors, missing \['A_enc.fc.0.bias', .*; give a check"),
    ):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=message):
            import_published(path, spec, ALL, 12, 16)
    export_published(path, spec, state_of(model), 0)
    with pytest.raises(WeightsError, match=r"A_enc.fc.0.weight has shape \(24, 12\), expected \(24, 13\); the check"):
        import_published(path, spec, ALL, 13, 16)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("method", ["fvaegan", "avgzslnet-attention"])
def test_methods_without_a_released_checkpoint(method, tmp_path):
    with pytest.raises(PipelineError, match=rf"method {method}: the released code has no checkpoint of it; expected"):
        export_published(tmp_path / "x.pt", tiny.spec(method), {}, 0)
    with pytest.raises(PipelineError, match=rf"method {method}: the released code has no checkpoint of it; expected"):
        import_published(tmp_path / "x.pt", tiny.spec(method), ALL, 12, 16)


def test_a_released_pair_of_checkpoints_evaluates_as_our_stages_do(tmp_path):
    given, spec = tiny.write(tmp_path / "b.h5"), tiny.spec("cjme", epochs=2)
    stages.train_stage1(given, spec, ALL, h5.Output(tmp_path / "1.h5", schemas.STAGE1))
    stages.train_stage2(given, tmp_path / "1.h5", spec, ALL, h5.Output(tmp_path / "2.h5", schemas.STAGE2))
    for number, schema in ((1, schemas.STAGE1), (2, schemas.STAGE2)):
        with h5.read(tmp_path / f"{number}.h5", schema) as file:
            chosen = file.attributes["chosen_epoch"]
        export_published(tmp_path / f"{number}.pt", spec, stages.read_state(tmp_path / f"{number}.h5", schema), chosen)
    found = []
    for evaluate, suffix in ((evaluation.evaluate, "h5"), (evaluation.evaluate_checkpoints, "pt")):
        output = h5.Output(tmp_path / f"scores_{suffix}.h5", schemas.SCORES)
        evaluate(given, tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}", spec, ALL, output)
        found.append(h5.facts(output.path))
    for name in ("content_sha256", "parameters", "gflops", "chosen_epoch"):
        assert found[0][name] == found[1][name]
    assert found[1]["imported_from"] == ["1.pt", "2.pt"]


def test_ablations_of_avca_name_what_is_left():
    _, model = fresh("avca-visual", small=True)
    assert isinstance(model, EmbeddingModel)
    keys = to_published(type(model), state_of(model))
    assert "V_proj.fc.4.weight" in keys and not any(key.startswith(("A_", "cross_attention", "pos_")) for key in keys)
