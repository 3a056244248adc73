"""``python -m tasks``: see and change the state of a run, and run it on several machines.

    status  [TASK ...]           what is done, to do, running, failed; videos, bytes, time left
    plan    [TASK ...]           what a run would do, compute and store
    why     TASK ...             which setting or input makes this task run again
    remove  STAGE [--below] ...  delete the artefacts of a stage (and all that is made from them), after asking
    orphans [--delete]           artefacts that no present setting makes
    run     TASK ...             run, with any number of machines at it; exits 0 once the work is done, whoever did it

TASK is a task with its parameters as on luigi's command line; default RunBenchmark with those of luigi.cfg.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from luigi.cmdline_parser import CmdlineParser

from pipeline.errors import PipelineError
from tasks import operate
from tasks.base import ArtefactTask

POLL_S = 5.0
NOT_RUN = 25  # luigi.cfg: [retcode] not_run


def requested(words: list[str]) -> list[str]:
    """-> luigi's words for the task: RunBenchmark unless a task is named first."""
    return words if words and not words[0].startswith("-") else ["RunBenchmark", *words]


def confirm(paths: list[Path], yes: bool) -> bool:
    """List files and their sizes; -> whether to delete them."""
    total = 0
    for path in paths:
        total += (count := operate.total_bytes(path))
        print(f"{operate.size(count):>10}  {path}")
    if not paths:
        print("nothing to delete")
        return False
    print(f"{len(paths)} files, {operate.size(total)}")
    if yes:
        return True
    if not sys.stdin.isatty():
        print("nothing deleted: give --yes to delete without being asked")
        return False
    return input("Delete all of them? [y/N] ").strip().lower() == "y"


def run_until_done(words: list[str]) -> int:
    """Run luigi again and again until the task is complete or this machine has failed twice without any progress.

    Other machines may do the last of the work; luigi on this one then ends with ``not_run``, which is no failure.
    """
    with CmdlineParser.global_instance(["--module", "tasks", *words]) as parser:
        task = parser.get_task_obj()
    fruitless = 0
    while True:
        before = done(task)
        command = [sys.executable, "-m", "luigi", "--module", "tasks", *words, "--worker-keep-alive"]
        code = subprocess.run(command, check=False).returncode
        if task.complete():
            return 0
        fruitless = 0 if done(task) > before else fruitless + 1
        if fruitless >= 2 and code not in (0, NOT_RUN):
            return code
        time.sleep(POLL_S)


def done(task: ArtefactTask) -> int:
    """-> number of finished tasks of the run."""
    return sum(group.states["done"] for group in operate.groups(task))


def main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    command, rest = words[0], words[1:]
    options = argparse.ArgumentParser(prog=f"python -m tasks {command}", add_help=False, allow_abbrev=False)
    options.add_argument("--yes", action="store_true")
    options.add_argument("--below", action="store_true")
    options.add_argument("--delete", action="store_true")
    chosen, rest = options.parse_known_args(rest)
    if command == "run":
        return run_until_done(requested(rest))
    stage = rest.pop(0) if command == "remove" and rest and not rest[0].startswith("-") else ""
    with CmdlineParser.global_instance(["--module", "tasks", *requested(rest)]) as parser:
        task = parser.get_task_obj()
        if command in ("status", "plan", "why"):
            for line in getattr(operate, command)(task):
                print(line)
            return 0
        if command == "remove":
            paths = operate.to_remove(task, stage, chosen.below)
        elif command == "orphans":
            paths = operate.orphans()
        else:
            print(f"error: {command!r} is unknown; expected status, plan, why, remove, orphans or run", file=sys.stderr)
            return 2
        if confirm(paths, chosen.yes):
            operate.delete(paths)
            print("deleted")
        return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PipelineError as error:
        sys.exit(f"error: {error}")
