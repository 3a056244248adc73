"""``python -m tasks``: see and change the state of a run, and run it on several machines.

    status  [TASK ...]           what is done, to do, running, failed; videos, bytes, time left
    plan    [TASK ...]           what a run would fetch, compute and store
    why     TASK ...             which setting or input makes this task run again
    remove  STAGE [--below] ...  delete the artefacts of a stage (and all that is made from them), after asking
    orphans [--delete]           artefacts that no present setting makes, those of luigi.cfg and of this command
    run     TASK ...             run, with any number of machines at it; exits 0 once the work is done, whoever did it
    compare FILE ...             scores of results, wherever they were made; --common: on the test videos they share

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
from luigi.interface import core
from luigi.retcodes import retcode

import tasks
from model import comparison
from pipeline.errors import PipelineError, SettingsError
from tasks import explain, operate, removal
from tasks.base import ArtefactTask

# command -> its own options
COMMANDS: dict[str, tuple[str, ...]] = {
    "status": (), "plan": (), "why": (), "remove": ("below", "yes"), "orphans": ("delete", "yes"), "run": (),
    "compare": ("common",),
}
LINES = {"status": operate.status, "plan": operate.plan, "why": explain.why}
POLL_S = 5.0
IDLE_S = 60.0  # a worker without work goes after this long, and comes back to ask for everything anew
FAILED = 2  # rounds with a failure and without any progress after which a run gives up
MISSED = 5  # the same for rounds that found nothing to do: what others made may be seen late


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
        total += (count := removal.total_bytes(path))
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
    """Run luigi again and again until the task is complete, or round after round has finished nothing anywhere.

    Other machines may do the last of the work; luigi on this one then ends with ``not_run``, which is no failure.
    While a task of ours runs on another machine it ends with ``already_running``: that is a reason to wait.
    """
    with CmdlineParser.global_instance(["--module", "tasks", *words]) as parser:
        task = parser.get_task_obj()
        codes, alone = retcode(), core().local_scheduler
    # A worker that stays gets what a dead machine held; one that never leaves waits for failed tasks for ever.
    stay = [] if alone else ["--worker-keep-alive", "--worker-max-keep-alive-idle-duration", f"{IDLE_S:g}"]
    fruitless = 0
    while True:
        before = done(task)
        code = luigi_once([*words, *stay])
        if task.complete():
            return 0
        moving = code == codes.already_running or done(task) > before
        fruitless = 0 if moving else fruitless + 1
        if fruitless >= (MISSED if code in (0, codes.not_run) else FAILED):
            return code or codes.not_run
        time.sleep(POLL_S)


def luigi_once(words: list[str]) -> int:
    """-> exit code of luigi's own command."""
    return subprocess.run([sys.executable, "-m", "luigi", "--module", "tasks", *words], check=False).returncode


def done(task: ArtefactTask) -> int:
    """-> number of finished tasks of the run."""
    return sum(group.states["done"] for group in operate.groups(task))


def compare(paths: list[Path], common: bool) -> int:
    """Print the scores of results side by side. Raises SettingsError for none."""
    if not paths:
        raise SettingsError("compare: found no file, expected one or more scores artefacts of Evaluate")
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
            for line in LINES[command](task):
                print(line)
            return 0
        removing = command == "remove"
        paths = removal.to_remove(task, stage, chosen.below) if removing else removal.orphans()
        show(paths)
        for path in [] if removing else removal.strangers():
            print(f"left alone, as nothing in it says which task made it: {path}")
        if paths and (removing or chosen.delete) and confirmed(chosen.yes):
            removal.delete(paths)
            print("deleted")
        return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
