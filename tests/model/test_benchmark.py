"""The benchmark of training speed runs; its figures are for a quiet machine."""

from __future__ import annotations

from benchmarks import train


def test_it_prints_a_row_per_method(monkeypatch, capsys):
    monkeypatch.setattr(train, "TABLE_1", {"ucf": ((40, 10, 20, 10, 20), (5, 3, 3))})
    monkeypatch.setattr(train, "ROUNDS", 1)
    monkeypatch.setattr(train, "STEPS", 1)
    assert train.main(["--methods", "sje", "--device", "cpu"]) == 0
    found = capsys.readouterr().out
    assert "1 CPU threads, selavi, protocol reference" in found
    assert "| ucf | sje | 256 | " in found and "peak memory" in found
