"""``python -m tasks run``: rounds of luigi until the work is done, whoever does it, and an end when nobody can."""

from __future__ import annotations

import pytest
from luigi.interface import core

from tasks import __main__ as command
from tasks import config
from tasks.results import RunBenchmark

REMOTE = ["RunBenchmark", "--dataset", "demo", "--scheduler-host", "h"]


@pytest.fixture
def rounds(configure, monkeypatch):
    """-> function(codes, done): plays rounds with these exit codes; -> (exit code, commands given)."""
    def play(codes, finished=lambda number: 0, complete_after=99, words=REMOTE):
        given = []

        def once(words):
            given.append(words)
            return codes[min(len(given), len(codes)) - 1]

        monkeypatch.setattr(command, "luigi_once", once)
        monkeypatch.setattr(command, "POLL_S", 0)
        monkeypatch.setattr(command, "done", lambda task: finished(len(given)))
        monkeypatch.setattr(RunBenchmark, "complete", lambda self: len(given) >= complete_after)
        config.follow_named_scheduler(words)
        return command.run_until_done(words), given

    configure(core={"local_scheduler": "true"}, retcode={"already_running": 27, "not_run": 25, "task_failed": 30})
    return play


@pytest.mark.parametrize("codes, count, expected", [
    ([30], 2, 30),  # the same task fails again and again
    ([25], 5, 25),  # nobody does the rest
    ([0], 5, 25),  # luigi thinks that all is done, the artefacts are not there
    ([27, 27, 27, 27, 27, 27, 27, 30], 9, 30),  # another machine is at it: wait
])
def test_it_gives_up_when_nobody_gets_anything_done(rounds, codes, count, expected):
    code, given = rounds(codes)
    assert (code, len(given)) == (expected, count)


def test_progress_of_anybody_is_a_reason_to_go_on(rounds):
    assert len(rounds([30], finished=lambda number: min(number, 6))[1]) == 8
    code, given = rounds([25, 25, 25], complete_after=3)
    assert (code, len(given)) == (0, 3)


def test_a_worker_stays_for_what_others_may_leave_but_not_for_ever(rounds):
    stay = ["--worker-keep-alive", "--worker-max-keep-alive-idle-duration", "60"]
    assert rounds([30])[1][0][-3:] == stay


def test_alone_nobody_has_to_stay(rounds):
    assert "--worker-keep-alive" not in rounds([30], words=REMOTE[:3])[1][0]


@pytest.mark.parametrize("words, local", [
    (["RunBenchmark", "--scheduler-host", "h"], False),
    (["RunBenchmark", "--scheduler-host=h"], False),
    (["--core-scheduler-url=http://h:1", "RunBenchmark"], False),
    (["RunBenchmark", "--scheduler-host", "h", "--local-scheduler"], True),
    (["RunBenchmark"], True),
])
def test_a_scheduler_that_is_named_is_used(configure, words, local):
    configure(core={"local_scheduler": "true"})
    config.follow_named_scheduler(words)
    assert core().local_scheduler is local
