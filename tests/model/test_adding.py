"""The example of docs/adding.md's chapter on methods is a method like the others."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from model import registry
from model.stages import create, fit, stage_1
from tests.model import tiny

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding.md"


def test_the_example_trains_and_scores(tmp_path, monkeypatch):
    chapter = re.search(r"\n## A method\n(.*?)(\n## |$)", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[1]
    (code,) = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    (tmp_path / "two_lines_example.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.METHODS, "two_lines", "two_lines_example:TwoLines")
    benchmark = tiny.benchmark()
    spec = replace(tiny.spec("avca", epochs=6, batches_per_epoch=20), method="two_lines")
    done = fit(benchmark, stage_1(benchmark, spec), spec, frozenset(), None)
    assert done.history.terms == ("l_audio", "l_video", "l_agree")
    assert done.history.loss[-1] < 0.7 * done.history.loss[0]
    scores = create(spec, frozenset()).scores(
        done.state, benchmark.audio, benchmark.video, benchmark.class_vector, range(10)
    )
    assert tuple(scores.distances) == ("both", "audio", "video")
    nearest = next(iter(scores.distances.values())).argmin(1)
    train = benchmark.rows("train")
    assert np.mean(nearest[train] == benchmark.class_index[train]) > 0.3  # chance is 0.1
