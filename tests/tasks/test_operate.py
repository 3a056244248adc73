"""Seeing and changing the state of a run, on three small tasks; and the options of the commands."""

from __future__ import annotations

import os
import socket

import h5py
import luigi
import pytest

from pipeline.errors import PipelineError, SettingsError
from pipeline.h5 import Column, Schema
from tasks import __main__ as command
from tasks import base, explain, operate, removal
from tasks.base import ArtefactTask

SCHEMA = Schema("toy", 1, (Column("value", "int64", (), ""),))
SETTINGS = {"depth": 1}


class Water(ArtefactTask):
    schema = SCHEMA
    folder = "water"

    def name(self):
        return type(self).__name__.lower()

    def build(self, output):
        with output.create() as file:
            file.write("value", SETTINGS["depth"])


class Spring(Water):
    def settings(self):
        return {"spring": dict(SETTINGS)}


class Stream(Water):
    shard = luigi.IntParameter(default=0)

    def inputs(self):
        return {"spring": Spring(dataset=self.dataset)}

    def name(self):
        return f"stream-{self.shard}"


class Lake(Water):
    def inputs(self):
        return {str(k): Stream(dataset=self.dataset, shard=k) for k in range(3)}


@pytest.fixture(autouse=True)
def made(configure):
    """Everything is there."""
    SETTINGS["depth"] = 1
    base.forget()
    for task in operate.graph(Lake()):
        task.run()


def change(depth: int) -> None:
    SETTINGS["depth"] = depth
    base.forget()


def names(paths) -> list[str]:
    return sorted(path.name for path in paths if path.suffix == ".h5")


def told(lines) -> str:
    return "\n".join(lines)


def test_the_graph_has_every_task_once_inputs_first():
    found = [type(task).__name__ for task in operate.graph(Lake())]
    assert found == ["Spring", "Stream", "Stream", "Stream", "Lake"]


def test_status_counts_states_and_bytes():
    text = told(operate.status(Lake()))
    assert "Stream" in text and "3/3" in text and text.endswith("everything is done")
    Stream(shard=1).path().unlink()
    Stream(shard=2).path().with_suffix(".log").write_text("Stream\nfailed at 12:00\nValueError: no water\n")
    Stream(shard=2).path().unlink()
    with base.lock(Stream(shard=1).path()):
        kinds = {kind.label: dict(kind.states) for kind in operate.groups(Lake())}
    assert kinds["Stream"] == {"done": 1, "running": 1, "failed": 1}
    text = told(operate.status(Lake()))
    assert "failed: Stream stream-2: ValueError: no water" in text
    assert "time left: about" in text


def test_time_left_is_not_known_without_any_experience():
    change(2)
    text = told(operate.status(Lake()))
    assert text.endswith("time left: not known yet, 3 kinds not counted of which none is done yet")


def test_summary_names_what_failed_and_what_to_do():
    Lake().path().unlink()
    Lake().path().with_suffix(".log").write_text("Lake\nfailed at 12:00\nOSError: dry\n")
    text = told(operate.summary(Lake()))
    assert "failed: Lake lake: OSError: dry; log: " in text and "4 of 5 tasks are done" in text


def test_plan_estimates_from_what_was_made_with_other_settings():
    assert told(operate.plan(Lake())) == "nothing to estimate, or nothing to do"
    change(2)
    text = told(operate.plan(Lake()))
    assert "Stream: 3 of 3; about 0 s of one worker" in text and "Spring: 1 of 1" in text


def test_why_names_the_setting_where_it_begins():
    assert "complete, it would not run" in told(explain.why(Lake()))
    change(2)
    text = told(explain.why(Lake()))
    assert "digest of input 0: found" in text
    assert "begins at Spring:" in text and "  setting spring.depth: found 1, now 2" in text


def test_estimates_are_of_the_same_dataset():
    assert "Stream: 3 of 3; no estimate: none was made here for ucf" in told(operate.plan(Lake(dataset="ucf")))


def test_why_names_a_new_schema(monkeypatch):
    monkeypatch.setattr(Spring, "schema", Schema("toy", 2, SCHEMA.columns))
    base.forget()
    assert "  schema: found toy version 1, now toy version 2" in told(explain.why(Spring()))


def test_why_names_what_an_artefact_lacks_and_compares_no_others(monkeypatch):
    monkeypatch.setattr(Spring, "lacking", lambda self, facts: "its page is gone")
    assert "is not what would be made now\n  its page is gone" in told(explain.why(Spring()))
    other = Spring().path().with_name("spring-imported-01234567.h5")
    other.touch()
    assert not explain.of_other_settings(other, Spring())
    assert explain.of_other_settings(other.with_name("spring-01234567.h5"), Spring())


def test_why_says_what_an_input_from_outside_is():
    (line,) = explain.differences({"here": "ab"}, {"here": "cd"}, "input")
    assert line == "  input here (files in [acquire] folders, archives and the store; failed videos to try again): " \
                   "found ab, now cd"


def test_why_names_the_input_that_changed():
    Spring().path().unlink()
    change(1)
    text = told(explain.why(Lake()))
    assert "exists, but its inputs have to run first: 0, 1, 2" in text
    assert "begins at Spring:" in text and "does not exist" in text
    Spring().run()
    path = Stream(shard=1).path()
    path.write_bytes(path.read_bytes()[:300])
    assert f"{path}: damaged" in told(explain.why(Stream(shard=1)))


def test_remove_takes_a_stage_or_all_below_it():
    assert names(removal.to_remove(Lake(), "Stream", below=False)) == names(Stream(shard=k).path() for k in range(3))
    below = removal.to_remove(Lake(), "Stream", below=True)
    assert Lake().path() in below and Lake().path().with_suffix(".log") in below and Spring().path() not in below
    with pytest.raises(SettingsError, match="remove: found stage 'River', expected one of this run's: Spring, Stream"):
        removal.to_remove(Lake(), "River", below=False)
    removal.delete(below)
    assert not Lake().complete() and Spring().complete()


def test_remove_takes_what_lies_beside_and_nothing_of_others():
    path = Lake().path()
    (page := path.with_suffix("") / "index.html").parent.mkdir()
    page.touch()
    for suffix in (".checkpoint", ".missing.csv"):
        path.with_suffix(suffix).touch()
    path.with_name(f"{path.stem}x.csv").touch()
    found = {entry.name.removeprefix(path.stem) for entry in removal.to_remove(Lake(), "Lake", below=False)}
    assert found == {".h5", ".log", ".checkpoint", ".missing.csv", "", f".{path.name}.lock"}


def test_what_is_being_made_is_not_removed():
    with base.lock(Lake().path()), pytest.raises(PipelineError, match="is being made at this moment: stop that run"):
        removal.to_remove(Lake(), "Lake", below=False)


def test_orphans_are_what_no_setting_makes():
    assert removal.orphans() == []
    old = [task.path() for task in operate.graph(Lake())]
    change(2)
    assert names(removal.orphans()) == names(old)
    change(1)
    damaged = Lake().path()
    damaged.write_bytes(b"no artefact")
    stranger = damaged.with_name("mine.h5")
    with h5py.File(stranger, "w") as file:
        file["mine"] = 1
    assert removal.orphans() == [] and removal.strangers() == [damaged, stranger]


def test_artefacts_of_a_folder_that_is_not_named_are_nobodys_orphans(configure, tmp_path):
    configure(folder={"videos": tmp_path})
    Spring(dataset="folder").run()
    theirs = Spring(dataset="folder").path()
    change(2)
    assert theirs in removal.orphans() and len(names(removal.orphans())) == 6
    configure(folder={"videos": ""})
    assert theirs not in removal.orphans() and len(names(removal.orphans())) == 5


def test_remains_of_the_dead_are_orphans_and_work_of_the_living_is_not():
    folder, host = Lake().path().parent, socket.gethostname()
    living = [f".a.h5.{host}.{os.getpid()}.partial", ".a.h5.elsewhere.12.partial"]
    dead = [f".a.h5.{host}.4194399.partial", f".a.h5.{host}.4194399.clips0", f".a.checkpoint.{host}.4194399.partial",
            ".b.h5.elsewhere.12.partial"]
    for name in (*living, *dead):
        (folder / name).touch()
    os.utime(folder / dead[-1], (0, 0))
    assert sorted(path.name for path in removal.orphans()) == sorted(dead)


def test_checkpoints_of_nothing_to_come_are_orphans():
    """Of a training that is done, or that no present setting asks for; not of one that goes on."""
    done = Spring().path().with_suffix(".checkpoint")
    unknown = done.with_name("spring-01234567.checkpoint")
    for path in (done, unknown):
        path.touch()
    assert removal.orphans() == [done]
    Spring().path().unlink()
    assert removal.orphans() == []
    change(2)
    assert done in removal.orphans() and unknown not in removal.orphans()


@pytest.mark.parametrize("words, expected", [
    ([], ["RunBenchmark"]),
    (["--dataset", "ucf"], ["RunBenchmark", "--dataset", "ucf"]),
    (["TrainStage1", "--seed", "1"], ["TrainStage1", "--seed", "1"]),
    (["--scheduler-host", "h", "Report", "--seeds", "1"], ["Report", "--scheduler-host", "h", "--seeds", "1"]),
])
def test_the_task_may_stand_anywhere(words, expected):
    assert command.requested(words) == expected


def test_unknown_words_are_one_line():
    with pytest.raises(SettingsError, match="task 'Trane' is unknown; expected one of AcquireVideos, "):
        command.requested(["Trane"])
    with pytest.raises(SettingsError, match="command 'stats' is unknown; expected one of status, plan, why"):
        command.main(["stats"])


def test_deleting_is_listed_and_asked_for(monkeypatch, capsys):
    change(2)
    old = removal.orphans()
    assert command.main(["orphans", "--yes"]) == 0
    assert str(old[0]) in capsys.readouterr().out and old[0].exists()
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert command.main(["orphans", "--delete"]) == 0
    assert "nothing deleted: give --yes" in capsys.readouterr().out and old[0].exists()
    assert command.main(["orphans", "--delete", "--yes"]) == 0
    assert "deleted" in capsys.readouterr().out and not any(path.exists() for path in old)
    assert command.main(["orphans"]) == 0
    assert "nothing to delete" in capsys.readouterr().out
