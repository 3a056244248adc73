"""The data set of docs/adding.md, run as it stands there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from pipeline import datasets, h5, manifest, schemas

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding.md"


@pytest.fixture
def birds(monkeypatch, tmp_path):
    """The document's module, registered, and settings that name a list of two clips of one video and one of another."""
    chapter = re.search(r"\n## A data set\n(.*?)\n## ", DOCUMENT.read_text(), re.DOTALL)[1]
    (text,) = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    module = types.ModuleType("pipeline.datasets.birds")
    monkeypatch.setitem(sys.modules, "pipeline.datasets.birds", module)
    exec(compile(text, str(DOCUMENT), "exec"), module.__dict__)
    monkeypatch.setitem(datasets.DATASETS, "birds", module.BIRDS)
    clips = tmp_path / "clips.csv"
    clips.write_text("youtube_id,start_s,species\nabc,0,great tit\nabc,30,great tit\nxyz,5,wood thrush\n")
    return module.BirdSettings(clips=str(clips))


def test_the_example_makes_a_manifest(birds, tmp_path):
    output = h5.Output(tmp_path / "manifest.h5", schemas.MANIFEST)
    manifest.build("birds", birds, output)
    with h5.read(output.path, schemas.MANIFEST) as file:
        assert file["id"].tolist() == ["abc_000000", "abc_000030", "xyz_000005"]
        assert file["class_name"].tolist() == ["great tit", "wood thrush"]
        assert file["group"].tolist() == ["abc", "abc", "xyz"]
        assert file["start_s"].tolist() == [0.0, 30.0, 5.0]
        assert file["end_s"].tolist() == [10.0, 40.0, 15.0]
        assert file.attributes["shards"] == 8
