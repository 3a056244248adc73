"""The audit as a task: a released split, with nothing but the released files."""

from __future__ import annotations

import csv

import luigi
import pytest

from tasks import AuditSplit, CurateSplit
from tasks.base import UsageError

pytestmark = pytest.mark.usefixtures("configure")


def test_a_released_split_is_audited_without_videos(configure, reference_data):
    upstream = {"upstream": reference_data / "data" / "upstream"}
    configure(ucf=upstream, labels=upstream, split=upstream)
    task = AuditSplit(dataset="ucf")
    assert luigi.build([task], local_scheduler=True, log_level="WARNING")
    with task.path().with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        found = {(row["section"], row["item"]): row["found"] for row in csv.DictReader(file)}
    assert found["counts", "videos train"] == "3174"
    assert found["overlap", "classes known from pre-training"] == "30"
    assert found["overlap", "of them unseen"] == "0"
    assert found["coverage", "acquired"] == "not known"


def test_videos_are_looked_at_if_asked_for_or_needed_anyway(configure):
    assert "acquired" not in AuditSplit(dataset="ucf").inputs()
    assert "acquired" in AuditSplit(dataset="ucf", coverage=True).inputs()
    assert "acquired" in AuditSplit(dataset="demo").inputs()


def test_settings_without_effect_end_the_command(configure):
    configure(split={"seed": 1})
    with pytest.raises(UsageError, match=r"error: \[split\] seed: found values that change nothing, since 'ucf' has"):
        CurateSplit(dataset="ucf")
    assert CurateSplit(dataset="demo").digest


def test_aliases_change_a_split_that_compares_names(configure, tmp_path):
    before = CurateSplit(dataset="folder").digest, CurateSplit(dataset="ucf").digest
    (tmp_path / "aliases.csv").write_text("class_name,text_label\n")
    configure(labels={"aliases": tmp_path / "aliases.csv"})
    assert CurateSplit(dataset="folder").digest != before[0]
    assert CurateSplit(dataset="ucf").digest == before[1]
