"""Checkpoints of the released code, in and out, as tasks on imported features."""

from __future__ import annotations

import pytest

from pipeline import h5
from pipeline.errors import WeightsError
from pipeline.published_export import export_features
from tasks.base import UsageError
from tasks.checkpoints import EvaluateCheckpoint, ExportCheckpoint
from tests.model import tiny

SMALL = {"epochs": 2, "batches_per_epoch": 2, "batch_size": 16, "device": "cpu"}


@pytest.fixture
def features(configure, tmp_path):
    tiny.write(tmp_path / "b.h5", tiny.benchmark(512, 512))
    export_features(tmp_path / "b.h5", tmp_path / "layout", "selavi", "demo")
    configure(paths={"root": tmp_path / "data", "features": tmp_path / "layout"}, training=SMALL)


def make(task):
    """Run what is missing above a task, and the task."""
    for above in task.requires():
        if not above.complete():
            make(above)
    task.run()
    assert task.complete()


def test_an_exported_pair_evaluates_as_the_training_it_came_from(features, tmp_path):
    from tasks.training import Evaluate

    evaluated = Evaluate(dataset="demo", method="sje")
    make(evaluated)
    exported = ExportCheckpoint(dataset="demo", method="sje", to=str(tmp_path / "out"))
    assert not exported.complete()
    make(exported)
    files = {stage: str(exported.file(stage)) for stage in ("stage1", "stage2")}
    again = EvaluateCheckpoint(dataset="demo", method="sje", **files)
    make(again)
    assert again.content_id() == evaluated.content_id()
    assert h5.facts(again.path())["spec"]["origin"] == "those of a checkpoint, not known"
    with pytest.raises(WeightsError, match=r"stage1-.*_score.pt: found 1 tensors, missing .*expected the 2 of APN"):
        EvaluateCheckpoint(dataset="demo", method="apn", **files).run()


def test_what_is_missing_is_said(features, tmp_path):
    with pytest.raises(UsageError, match=r"--stage1 \(nothing\): expected a released \*_score.pt"):
        EvaluateCheckpoint(dataset="demo")
    with pytest.raises(UsageError, match="ExportCheckpoint: --to is empty, expected a folder to write to"):
        ExportCheckpoint(dataset="demo")
