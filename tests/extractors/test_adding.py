"""The example of docs/adding.md, run as it stands there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from extractors import base, registry, weight_files, weights
from extractors.settings import ExtractionSettings, WeightsSettings
from pipeline import h5, schemas
from pipeline.errors import WeightsError

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "adding.md"


@pytest.fixture
def example(monkeypatch):
    """The document's module and its registry lines."""
    chapter = re.search(r"\n## An extractor\n(.*?)(\n## |$)", DOCUMENT.read_text(), re.DOTALL)[1]
    module_text, lines = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    module = types.ModuleType("extractors.colour")
    exec(compile(module_text, str(DOCUMENT), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "extractors.colour", module)
    monkeypatch.setattr(registry, "EXTRACTORS", dict(registry.EXTRACTORS))
    monkeypatch.setattr(registry, "FEATURE_SETS", dict(registry.FEATURE_SETS))
    exec(compile(lines, str(DOCUMENT), "exec"), {**vars(weight_files), **vars(registry)})
    return module


def test_the_example_runs(example, shard, tmp_path):
    decoded = shard("colour_vggish", [2, 1])
    output = h5.Output(tmp_path / "features.h5", schemas.CLIP_FEATURES)
    generated = WeightsSettings(source="generated")
    base.extract(decoded, "colour_vggish", generated, ExtractionSettings(device="cpu"), frozenset(), "demo", output)
    with h5.read(output.path, schemas.CLIP_FEATURES) as file:
        rows = file["video/features"]
        assert file.attributes["weights"]["colour"]["source"] == "generated"
    assert rows.shape == (3, 32)
    assert (rows >= 0).all()
    assert np.abs(rows[0] - rows[1]).max() > 0


def test_its_weights_are_loaded_strictly(example, tmp_path):
    settings = WeightsSettings(source="published", folder=str(tmp_path), fetch=False)
    with pytest.raises(WeightsError, match=r"weights 'colour': .*colour.pth is not there"):
        weights.check("colour_vggish", settings, frozenset(), "demo")
    network = example.ColourNetwork()
    torch.save(network.state_dict(), tmp_path / "colour.pth")
    loaded = base.build("colour", weights.Store(settings), frozenset(), "demo").network.state_dict()
    assert torch.equal(loaded["over_time.weight"], network.state_dict()["over_time.weight"])
    torch.save({"over_time.weight": network.over_time.weight.data}, tmp_path / "colour.pth")
    with pytest.raises(WeightsError, match="tensor 'over_time.bias' is missing"):
        base.build("colour", weights.Store(settings), frozenset(), "demo")


def test_its_plan_is_one_of_those_that_decode(example):
    from pipeline.windows import PLANS

    assert registry.plans("colour_vggish", frozenset(), "ucf")["video"] in PLANS
