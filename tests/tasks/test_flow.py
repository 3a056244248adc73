"""Identity and completeness of the real tasks: what makes which of them run again. Nothing is built."""

from __future__ import annotations

import json

import numpy as np
import pytest
from luigi.cmdline_parser import CmdlineParser

from pipeline import schemas
from pipeline.datasets import folder
from pipeline.errors import SettingsError
from pipeline.h5 import Output
from pipeline.progress import Progress
from tasks import acquire, config, explain
from tasks.acquire import AcquireVideos
from tasks.base import UsageError
from tasks.features import DecodeVideos, ExtractFeatures, PoolFeatures
from tasks.results import Report, RunBenchmark
from tasks.training import Evaluate, TrainStage1

pytestmark = pytest.mark.usefixtures("configure")


def test_a_decoded_shard_has_one_reader():
    """Two tasks that read one transient shard would remove it under each other's eyes."""
    shared = {"dataset": "ucf", "feature_set": "c3d_vggish"}
    for deviations in ("", "c3d_scale=corrected", "vggish_codes=corrected"):
        task = ExtractFeatures(**shared, deviations=deviations, shard=5)
        decoded = task.decoded()
        assert ExtractFeatures(**decoded.shared(), shard=5).task_id == task.task_id
        earlier = [each for each in decoded.requires() if isinstance(each, ExtractFeatures)]
        assert [(each.shard, each.digest) for each in earlier] == [(1, task.digest)]
    assert DecodeVideos(**shared).digest == DecodeVideos(**shared, deviations="label_order=corrected").digest


def test_options_of_a_run_are_settings_of_its_tasks():
    before = RunBenchmark(dataset="demo").report().digest
    RunBenchmark(dataset="demo", retry="all", strict=True)
    assert config.settings("acquire").retry == "all"
    assert config.settings("training").strict is True
    assert RunBenchmark(dataset="demo", retry="all", strict=True).report().digest == before


def test_an_impossible_option_ends_the_command(configure):
    with pytest.raises(UsageError, match=r"error: \[acquire\] retry: found 'some', expected one of transient, all"):
        RunBenchmark(dataset="demo", retry="some")


def test_keys_of_tasks_are_checked_like_those_of_sections(configure):
    configure(RunBenchmark={"seed": "0"})
    with pytest.raises(SettingsError, match=r"luigi.cfg: \[RunBenchmark\] has no key 'seed'; did you mean 'seeds'"):
        config.check()


def facts(task, **more):
    return {"digest": task.digest, "inputs": task.input_ids(), **more}


def test_strict_is_not_content_with_scores_that_leave_out_a_class():
    task = Evaluate(dataset="demo")
    left_out, full = facts(task, empty_classes=["red ball"]), facts(task, empty_classes=[])
    assert task.made_from_these(left_out) and task.made_from_these(full)
    config.change("training", "strict", "true")
    assert not task.made_from_these(left_out) and task.made_from_these(full)


def test_an_artefact_of_another_digest_is_not_this_ones():
    task = TrainStage1(dataset="demo")
    assert task.made_from_these(facts(task))
    assert not task.made_from_these({**facts(task), "digest": f"{task.digest[:8]}00000000"})


def test_a_report_without_its_page_is_made_again():
    task = Report(dataset="demo")
    found = facts(task)
    assert not task.made_from_these(found)
    task.page().parent.mkdir(parents=True)
    task.page().touch()
    assert task.made_from_these(found)


def test_a_lower_threshold_is_a_reason_to_look_again(configure):
    before = AcquireVideos(dataset="demo").input_ids()
    configure(acquire={"max_failed_share": 0.1})
    after = AcquireVideos(dataset="demo").input_ids()
    assert after["here"] != before["here"] and after["source"] == before["source"]


def test_a_look_that_takes_long_serves_longer(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(acquire.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(acquire, "_looks", {})

    def slowly():
        clock[0] += 60.0
        return str(clock[0])

    assert acquire.look(("a",), slowly) == "60.0"
    clock[0] += 600.0
    assert acquire.look(("a",), slowly) == "60.0"
    clock[0] += 601.0
    assert acquire.look(("a",), slowly) == "1321.0"


def test_a_scheduler_that_is_gone_stops_no_work(caplog):
    task = TrainStage1(dataset="demo")
    told = []
    task.set_status_message, task.set_progress_percentage = told.append, told.append
    Progress.listener = task.tell
    try:
        task.tell("3/4", 0.75)
        assert told == ["3/4", 75]

        def gone(value):
            raise ConnectionError("no scheduler")

        task.set_status_message = gone
        task.tell("4/4", 1.0)
        assert Progress.listener is None
    finally:
        Progress.listener = None


def test_identity_can_be_written_down():
    task = TrainStage1(dataset="demo", seed=3)
    assert json.loads(json.dumps(task.attributes()))["task_parameters"]["seed"] == 3


def test_a_large_folder_is_walked_once_for_all_its_shards(configure, tmp_path, monkeypatch):
    (tmp_path / "videos" / "a").mkdir(parents=True)
    configure(folder={"videos": tmp_path / "videos"})
    walks = []
    monkeypatch.setattr(acquire, "_looks", {})
    monkeypatch.setattr(folder, "_files_below", lambda path: walks.append(path) or [])
    task = PoolFeatures(dataset="folder")
    assert len({each.path() for each in task.inputs().values()}) == 8
    assert len(walks) == 1


def test_features_know_the_settings_of_their_decoded_shard(configure):
    """The shard is gone when somebody asks which setting has changed."""
    before = ExtractFeatures(dataset="demo").identity()["settings"]
    configure(decoding={"max_pixels": 1000})
    lines = explain.differences(before, ExtractFeatures(dataset="demo").identity()["settings"], "setting")
    assert "  setting decoded.decoding.max_pixels: found" in "\n".join(lines)


def test_a_flipped_byte_in_what_shards_are_named_by_makes_the_snapshot_anew(configure):
    """It is read to answer what is complete, where no task fails that could set the file aside."""
    task = AcquireVideos(dataset="demo")
    content = np.array([f"{shard:02d}" * 32 for shard in range(8)])
    with Output(task.path(), schemas.ACQUIRED, facts(task)).create() as file:
        for column in schemas.ACQUIRED.columns:
            shape = [axis if isinstance(axis, int) else 0 for axis in column.axes]
            file.write(column.name, content if column.name == "shard_content" else np.zeros(shape, column.dtype))
    assert ExtractFeatures(dataset="demo", shard=3).input_ids()["acquired"] == content[3]
    raw = task.path().read_bytes()
    place = raw.index(content[3].encode())
    task.path().write_bytes(raw[:place] + b"x" + raw[place + 1 :])
    assert task.output().exists()
    assert ExtractFeatures(dataset="demo", shard=3).input_ids()["acquired"] == ""
    assert not task.output().exists()


@pytest.mark.parametrize("words, message", [
    (("--dataset", "demmo"), "dataset 'demmo' is unknown.*did you mean 'demo'"),
    (("--methods", "avac"), "method 'avac' is unknown; did you mean 'avca'"),
    (("--feature-set", "selavy"), "feature set 'selavy' is unknown; did you mean 'selavi'"),
    (("--dataset", "demo", "--protocol", "reference"), "found protocol 'reference', expected corrected"),
    (("--seeds", "one"), "seeds: found 'one', expected whole numbers"),
    (("--dataset", "folder", "--videos", "/nowhere"), "/nowhere: no such folder"),
    (("--extraction-threads", "0"), r"\[extraction\] threads: found 0, expected 1 or more"),
])
def test_wrong_requests_are_one_clear_line(words, message):
    with CmdlineParser.global_instance(["RunBenchmark", *words]) as parser, pytest.raises(UsageError, match=message):
        parser.get_task_obj()
