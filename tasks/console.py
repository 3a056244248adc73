"""What the person at the terminal sees: one short line per event, and at the end where to look."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import luigi
from luigi.cmdline_parser import CmdlineParser

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from tasks.base import ArtefactTask


class ShortFormatter(logging.Formatter):
    """One line for what a user can mend; a traceback for what only we can."""

    def formatException(self, ei) -> str:
        return f"error: {ei[1]}" if isinstance(ei[1], PipelineError) else super().formatException(ei)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).strip()


class Worthwhile(logging.Filter):
    """Warnings and errors that our own lines do not tell already; Luigi's running commentary goes to nobody."""

    def filter(self, record: logging.LogRecord) -> bool:
        told = record.getMessage().startswith("[pid")
        return record.levelno >= logging.WARNING and not told


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


def failed(task: ArtefactTask, error: BaseException, log: Path | None) -> None:
    what = str(error) if isinstance(error, (PipelineError, SystemExit)) else f"{type(error).__name__}: {error}"
    say(f"FAILED {headline(task)}: {what}" + (f"\n         log: {log}" if log else ""))


def tell_at_the_end() -> None:
    """When this process is luigi's command, end it with where the result is, or with what failed and what to do."""
    if Path(sys.argv[0]).name in ("luigi", "__main__.py") and "luigi" in sys.argv[0]:
        atexit.register(tell, os.getpid())


def tell(process: int) -> None:
    from tasks import operate

    if os.getpid() != process:
        return
    try:
        with CmdlineParser.global_instance(sys.argv[1:]) as parser:
            for line in operate.summary(parser.get_task_obj()):
                print(line, flush=True)
    except SystemExit:  # the command could not be understood, which was said
        pass
    except Exception as error:
        print(f"no summary: {type(error).__name__}: {error}", flush=True)


@luigi.Task.event_handler(luigi.Event.PROCESS_FAILURE)
def process_failed(task, error) -> None:
    """A task's process that died without a word: killed, as the system does where memory runs out."""
    text = f"{error}; if it was killed for memory, set [core] workers = 1"
    task.record_failure(text)
    say(f"FAILED {headline(task)}: {text}")
