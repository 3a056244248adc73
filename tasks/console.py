"""What the person at the terminal sees: one short line per event, and at the end where to look."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from typing import TYPE_CHECKING

import luigi

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from tasks.base import ArtefactTask
    from tasks.results import RunBenchmark


class ShortFormatter(logging.Formatter):
    """One line for what a user can mend; a traceback for what only we can."""

    def formatException(self, ei) -> str:
        return f"error: {ei[1]}" if isinstance(ei[1], PipelineError) else super().formatException(ei)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).strip()


class Worthwhile(logging.Filter):
    """Warnings of ours and the summary of Luigi; its running commentary goes to nobody."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "failed" in message and message.startswith("[pid"):
            return False
        return record.levelno >= logging.WARNING or "Luigi Execution Summary" in message


def set_up() -> None:
    """Send Luigi's log to standard error, shortened; print a line as each task starts, ends or fails."""
    log = logging.getLogger("luigi-interface")
    log.setLevel(logging.INFO)
    log.propagate = False
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(ShortFormatter("%(message)s"))
        handler.addFilter(Worthwhile())
        log.addHandler(handler)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def headline(task: ArtefactTask) -> str:
    """-> 'ExtractFeatures demo selavi-003-of-008'."""
    return f"{type(task).__name__} {task.dataset} {task.name()}"


def started(task: ArtefactTask) -> None:
    say(f"start  {headline(task)}")


def done(task: ArtefactTask, seconds: float) -> None:
    say(f"done   {headline(task)} in {seconds:.1f} s")


def failed(task: ArtefactTask, error: BaseException) -> None:
    what = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
    say(f"FAILED {headline(task)}: {what}\n         log: {task.path().with_suffix('.log')}")


_asked: list[RunBenchmark] = []
_tell = True


def forget_result() -> None:
    """Say nothing at the end: this process only looks."""
    global _tell
    _tell = False


def tell_result_of(task: RunBenchmark) -> None:
    """At the end of this process say where the report of ``task`` is, or that it is not finished."""
    if not _asked:
        atexit.register(tell, os.getpid())
    _asked[:] = [task]


def tell(process: int) -> None:
    if os.getpid() != process or not _tell:
        return
    report = _asked[0].report()
    if report.complete():
        print(f"Report: {report.page().resolve()}", flush=True)
    else:
        print(
            "Not finished: the lines with FAILED above say why; "
            "the same command goes on from what is done",
            flush=True,
        )


@luigi.Task.event_handler(luigi.Event.PROCESS_FAILURE)
def process_failed(task, error) -> None:
    say(f"FAILED {headline(task)}: {error}; if it was killed for memory, set [core] workers = 1")
