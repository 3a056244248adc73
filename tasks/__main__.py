"""``python -m tasks``: see and change the state of a run, and run it on several machines.

    status  [TASK ...]           what is done, to do, running, failed; videos, bytes, time left
    plan    [TASK ...]           what a run would fetch, compute and store
    why     TASK ...             which setting or input makes this task run again
    remove  STAGE [--below] ...  delete the artefacts of a stage (and all that is made from them), after asking
    orphans [--delete]           artefacts that no present setting makes, those of luigi.cfg and of this command
    run     TASK ...             run, with any number of machines at it; exits 0 once the work is done, whoever did it
    compare FILE FILE ...        scores of results, wherever they were made; --common: on the test videos they share

TASK is a task with its parameters as on luigi's command line; default RunBenchmark with those of luigi.cfg.
--yes deletes without asking.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from luigi.cmdline_parser import CmdlineParser

import tasks
from model import comparison
from pipeline.errors import PipelineError, SettingsError
from tasks import operate
from tasks.base import ArtefactTask

# command -> its own options
COMMANDS: dict[str, tuple[str, ...]] = {
    "status": (), "plan": (), "why": (), "remove": ("below", "yes"), "orphans": ("delete", "yes"), "run": (),
    "compare": ("common",),
}
POLL_S = 5.0
NOT_RUN = 25  # luigi.cfg: [retcode] not_run


def requested(words: list[str]) -> list[str]:
    """-> luigi's words, the task first: the one that is named among ``words``, else RunBenchmark."""
    names = [word for word in words if word in tasks.__all__]
    if not names and words and not words[0].startswith("-"):
        raise SettingsError(f"task {words[0]!r} is unknown; expected one of {', '.join(tasks.__all__)}")
    root = names[0] if names else "RunBenchmark"
    rest = list(words)
    if names:
        rest.remove(root)
    return [root, *rest]


def show(paths: list[Path]) -> None:
    """List files and their sizes."""
    total = 0
    for path in paths:
        total += (count := operate.total_bytes(path))
        print(f"{operate.size(count):>10}  {path}")
    print(f"{len(paths)} files, {operate.size(total)}" if paths else "nothing to delete")


def confirmed(yes: bool) -> bool:
    """-> whether to delete what was listed."""
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
    if "--scheduler-host" in words and "--local-scheduler" not in words:
        words = [*words, "--local-scheduler", "false"]  # whatever luigi.cfg says: a host was named
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


def compare(paths: list[Path], common: bool) -> int:
    """Print the scores of results side by side. Raises SettingsError for fewer than two."""
    if len(paths) < 2:
        raise SettingsError(f"compare: found {len(paths)} files, expected two or more scores artefacts of Evaluate")
    for line in comparison.lines(comparison.compare([comparison.read_predictions(path) for path in paths], common)):
        print(line)
    return 0


def main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        raise SettingsError(f"command {command!r} is unknown; expected one of {', '.join(COMMANDS)}")
    options = argparse.ArgumentParser(prog=f"python -m tasks {command}", add_help=False, allow_abbrev=False)
    for name in COMMANDS[command]:
        options.add_argument(f"--{name}", action="store_true")
    chosen, rest = options.parse_known_args(rest)
    if command == "run":
        return run_until_done(requested(rest))
    if command == "compare":
        return compare([Path(word) for word in rest], chosen.common)
    stage = rest.pop(0) if command == "remove" and rest and not rest[0].startswith("-") else ""
    with CmdlineParser.global_instance(["--module", "tasks", *requested(rest)]) as parser:
        task = parser.get_task_obj()
        if command in ("status", "plan", "why"):
            for line in getattr(operate, command)(task):
                print(line)
            return 0
        removing = command == "remove"
        paths = operate.to_remove(task, stage, chosen.below) if removing else operate.orphans()
        show(paths)
        if paths and (removing or chosen.delete) and confirmed(chosen.yes):
            operate.delete(paths)
            print("deleted")
        return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
