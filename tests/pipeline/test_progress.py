"""Progress lines and failure reasons."""

from __future__ import annotations

import pickle

import pytest

from pipeline import progress
from pipeline.errors import DamagedArtefact, VideoError
from pipeline.progress import Progress, duration


def test_durations_read_well():
    assert [duration(s) for s in (45.2, 190, 7500)] == ["45 s", "3 min 10 s", "2 h 05 min"]


def test_a_line_has_count_rate_and_time_left(monkeypatch, capsys):
    clock = iter([0.0, 0.0, 40.0, 40.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Progress("decode demo 3/8", 20) as bar:
        bar.advance(0)
        bar.advance(10)
    assert capsys.readouterr().err == "decode demo 3/8: 10/20 videos, 0.25 videos/s, 40 s left\n"


def test_reasons_are_a_fixed_list():
    assert VideoError("corrupt", "frame 3").reason == "corrupt"
    with pytest.raises(ValueError, match="reason 'odd' is not one of"):
        VideoError("odd", "")


def test_errors_cross_processes():
    for error in (VideoError("corrupt", "frame 3"), DamagedArtefact("a.h5", "truncated")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
