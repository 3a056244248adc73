"""benchmarks/extract.py, with networks that cost nothing."""

from __future__ import annotations

import json
from dataclasses import replace

from benchmarks import extract
from extractors import registry


def test_every_figure_is_there(monkeypatch, tmp_path, capsys):
    for name, kind in (("c3d", "Brightness"), ("vggish", "Loudness")):
        line = replace(registry.EXTRACTORS[name], width=2, target=f"tests.extractors.plain:{kind}")
        monkeypatch.setitem(registry.EXTRACTORS, name, line)
    monkeypatch.setattr(extract, "matrix_peak", lambda *_: 1e9)
    asked = {"seconds": "1.2", "videos": "1", "device": "cpu", "feature-set": "c3d_vggish",
             "json": str(tmp_path / "figures.json")}
    figures = extract.main([f"--{name}={value}" for name, value in asked.items()])
    assert json.loads((tmp_path / "figures.json").read_text()) == json.loads(json.dumps(figures))
    made = figures["feature_sets"]["c3d_vggish"]
    assert figures["video_seconds"] == 1.2
    assert {name: each["clips"] for name, each in made["extractors"].items()} == {"c3d": 1, "vggish": 1}
    assert 0 < made["network_s"] < made["extract_s"] < made["whole_s"] == made["decode_s"] + made["extract_s"]
    assert "c3d_vggish: video seconds per second: decode only" in capsys.readouterr().out
