"""Identity and completeness of tasks, on a chain of three small ones."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import time

import luigi
import numpy as np
import pytest

from pipeline import h5
from pipeline.errors import ArtefactError, DamagedArtefact, SettingsError
from pipeline.h5 import Column, Schema
from tasks import base, operate
from tasks.base import ArtefactTask, UsageError

SCHEMA = Schema("toy", 1, (Column("value", "int64", (), ""),))
FACTS = {"source": "1", "setting": 0}


class Toy(ArtefactTask):
    schema = SCHEMA
    folder = "toy"
    calls: list[str] = []

    def build(self, output):
        self.calls.append(type(self).__name__)
        values = []
        for task in self.inputs().values():
            with h5.read(task.path(), SCHEMA) as file:
                values.append(int(file["value"]))
        with output.create() as file:
            file.write("value", sum(values) + self.own())

    def own(self):
        return 0

    def name(self):
        return type(self).__name__


class First(Toy):
    def input_ids(self):
        return {"source": FACTS["source"]}

    def own(self):
        return int(FACTS["source"]) % 10


class Second(Toy):
    shard = luigi.IntParameter(default=0)

    def inputs(self):
        return {"first": First()}

    def settings(self):
        return {"setting": FACTS["setting"]}

    def name(self):
        return f"second-{self.shard}"


class Third(Toy):
    def inputs(self):
        return {str(k): Second(shard=k) for k in range(2)}


@pytest.fixture(autouse=True)
def fresh(configure):
    Toy.calls.clear()
    FACTS.update(source="1", setting=0)
    base.forget()


def run(task):
    """Depth first, as the scheduler would; -> names of the tasks that ran."""
    before = len(Toy.calls)

    def visit(each):
        if not each.complete():
            for above in each.requires():
                visit(above)
            try:
                each.run()
            except Exception as error:
                each.on_failure(error)
                raise
            assert each.complete()

    visit(task)
    return Toy.calls[before:]


def test_a_run_makes_everything_once_and_a_second_nothing():
    assert run(Third()) == ["First", "Second", "Second", "Third"]
    assert run(Third()) == []


def test_shards_share_a_digest_and_have_files_of_their_own():
    assert Second(shard=0).digest == Second(shard=1).digest
    assert Second(shard=0).path() != Second(shard=1).path()


def test_a_setting_renames_what_depends_on_it_and_keeps_the_rest():
    run(Third())
    old = Third().path()
    first = First().path()
    FACTS["setting"] = 1
    base.forget()
    assert First().path() == first
    assert Third().path() != old
    assert run(Third()) == ["Second", "Second", "Third"]
    assert old.is_file()


def test_a_deleted_artefact_is_made_again_alone():
    run(Third())
    content = Second(shard=1).content_id()
    Second(shard=1).path().unlink()
    assert not Third().complete()
    assert run(Third()) == ["Second"]
    assert Second(shard=1).content_id() == content


def test_a_changed_input_is_noticed_to_the_end():
    run(Third())
    FACTS["source"] = "2"
    assert not Third().complete()
    assert run(Third()) == ["First", "Second", "Second", "Third"]


def test_an_input_with_equal_content_changes_nothing_below():
    run(Third())
    FACTS["source"] = "11"
    assert run(Third()) == ["First"]


def test_a_damaged_artefact_counts_as_absent(caplog):
    run(Third())
    path = Second(shard=0).path()
    path.write_bytes(path.read_bytes()[:500])
    assert not Third().complete()
    assert run(Third()) == ["Second"]


def test_damage_found_while_reading_is_set_aside(monkeypatch):
    run(Second())

    def broken(self, output):
        raise DamagedArtefact(First().path(), "a flipped byte")

    monkeypatch.setattr(Third, "build", broken)
    with pytest.raises(DamagedArtefact, match="a flipped byte"):
        run(Third())
    assert not First().path().exists()
    assert First().path().with_name(First().path().name + ".damaged").exists()
    monkeypatch.undo()


def test_a_foreign_digest_is_refused():
    with pytest.raises(UsageError, match="found digest 0000, expected .*; this host's settings differ"):
        First(digest="0000")


def test_an_unknown_dataset_is_one_line():
    with pytest.raises(UsageError, match="error: dataset 'demmo' is unknown.*did you mean 'demo'"):
        First(dataset="demmo")


def test_the_log_tells_settings_and_what_went_wrong(monkeypatch, capsys):
    def broken(self, output):
        raise ValueError("no such number")

    monkeypatch.setattr(First, "build", broken)
    with pytest.raises(ValueError, match="no such number"):
        run(First())
    log = First().log_path().read_text()
    assert "settings:" in log
    assert "failed at" in log
    assert "ValueError: no such number" in log
    said = capsys.readouterr().err
    assert "FAILED First demo First: ValueError: no such number" in said
    assert str(First().log_path()) in said
    assert "Traceback" not in said


def test_a_failure_before_the_build_is_told_too(monkeypatch, capsys):
    def broken(self):
        raise SettingsError("the ledger can't be read")

    monkeypatch.setattr(First, "attributes", broken)
    with pytest.raises(SettingsError, match="the ledger can't be read"):
        run(First())
    assert "FAILED First demo First: the ledger can't be read\n         log: " in capsys.readouterr().err
    assert operate.failure(First()).endswith("the ledger can't be read")


def test_where_nothing_can_be_written_the_failure_is_told_all_the_same(configure, capsys):
    configure(paths={"root": "/sys/nowhere"})
    with pytest.raises(ArtefactError, match="/sys/nowhere.* could not be written: .*; expected room and the right to"):
        run(First())
    said = capsys.readouterr().err
    assert "FAILED First demo First: /sys/nowhere" in said and "log:" not in said


def test_a_full_disk_stops_the_task_and_the_next_run_goes_on(monkeypatch, capsys):
    noise = np.random.default_rng(0).integers(0, 2**62, 100_000)
    monkeypatch.setattr(First, "schema", Schema("toy", 1, (Column("value", "int64", ("row",), ""),)))
    monkeypatch.setattr(First, "build", lambda self, output: written(output, noise))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(ArtefactError, match="could not be written: file too large; expected room"):
            run(First())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "FAILED First demo First: " in capsys.readouterr().err and operate.state(First(), {}) == "failed"
    assert {path.suffix for path in First().path().parent.iterdir()} == {".log", ".lock"}
    run(First())
    assert First().complete()


def written(output, values):
    with output.create() as file:
        file.write("value", values)


def test_a_task_whose_process_was_killed_has_failed(capsys):
    First().path().parent.mkdir(parents=True)
    First().trigger_event(luigi.Event.PROCESS_FAILURE, First(), "Task First died unexpectedly with exit code -9")
    assert "exit code -9; if it was killed for memory, set [core] workers = 1" in capsys.readouterr().err
    assert operate.state(First(), {}) == "failed" and "exit code -9" in operate.failure(First())


def test_two_runs_at_once_do_the_work_once(tmp_path):
    """Each in a process of its own, as a lock is one's process's; the first takes its time."""
    root = tmp_path / "data" / "toy"
    First().path().parent.mkdir(parents=True)
    meet = multiprocessing.get_context("fork").Barrier(2, timeout=20)

    def build(self, output):
        (root / f"built-by-{os.getpid()}").touch()
        time.sleep(0.3)
        Toy.build(self, output)

    def one():
        First.build = build
        meet.wait()
        First().run()
        assert First().complete()

    runs = [multiprocessing.get_context("fork").Process(target=one) for _ in range(2)]
    for each in runs:
        each.start()
    for each in runs:
        each.join(30)
    assert [each.exitcode for each in runs] == [0, 0]
    assert len(list(root.glob("built-by-*"))) == 1


def test_without_locks_work_goes_on_with_a_warning(monkeypatch, caplog):
    def no_locks(handle, how):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(base.fcntl, "flock", no_locks)
    monkeypatch.setattr(base.logger, "propagate", True)
    base.warn_of_no_locks.cache_clear()
    assert run(Second()) == ["First", "Second"]
    assert not operate.locked(First().path())
    assert [record.message for record in caplog.records if "has no locks: start one run at a time" in record.message]
    assert len(caplog.records) == 1
