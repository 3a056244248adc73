"""Which files a person may want to delete: those of a stage, and those that no present setting makes."""

from __future__ import annotations

import ast
import glob
import re
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from luigi.parameter import ParameterException
from luigi.task_register import Register, TaskClassException

from pipeline.errors import PipelineError, SettingsError
from tasks import config
from tasks.base import ArtefactTask, UsageError, lock_path
from tasks.features import ExtractFeatures
from tasks.operate import artefacts, folders, graph, locked, try_facts
from tasks.results import RunBenchmark

# A host that is not this one may still be writing; a day without a byte says that it is not.
ABANDONED_S = 86400.0


def files_of(path: Path) -> list[Path]:
    """-> an artefact and what lies beside it: log, tables, checkpoint, lock, the report's folder."""
    beside = [*path.parent.glob(f"{glob.escape(path.stem)}.*"), path.with_suffix(""), lock_path(path)]
    return [entry for entry in sorted(beside) if entry.exists()]


def to_remove(root: ArtefactTask, stage: str, below: bool) -> list[Path]:
    """-> files of the tasks of ``stage`` in the run; with ``below`` also of all that is made from them.

    Raises SettingsError for a stage that the run does not have, PipelineError while one of them is being made.
    """
    ordered = [task for task in graph(root) if not isinstance(task, RunBenchmark)]
    chosen = {task.task_id for task in ordered if type(task).__name__ == stage}
    if not chosen:
        names = ", ".join(dict.fromkeys(type(task).__name__ for task in ordered))
        raise SettingsError(f"remove: found stage {stage!r}, expected one of this run's: {names}")
    if below:
        for task in ordered:
            above = {each.task_id for each in (*task.inputs().values(), *direct(task))}
            chosen |= {task.task_id} if above & chosen else set()
    paths = [task.path() for task in ordered if task.task_id in chosen]
    for path in paths:
        if locked(path):
            raise PipelineError(f"{path} is being made at this moment: stop that run first, then remove it")
    return [entry for path in paths for entry in files_of(path)]


def direct(task: ArtefactTask) -> list[ArtefactTask]:
    """-> what a task reads although it is not among its inputs: the decoded shard, which may be gone by then."""
    return [task.decoded()] if isinstance(task, ExtractFeatures) else []


def orphans() -> list[Path]:
    """-> files of artefacts that no task makes under the present settings, and remains of dead or damaged writes.

    Artefacts of the user's own folder are left out unless [folder] videos names one: which one is not known.
    """
    root = Path(config.settings("paths").root)
    found = []
    for path in artefacts():
        facts = try_facts(path)
        if facts and no_more(facts, path):
            found += files_of(path)
    for folder in sorted(folders()):
        found += root.glob(f"{folder}/*/*.h5.damaged")
        found += (path for path in root.glob(f"{folder}/*/.*") if abandoned(path))
        found += (path for path in root.glob(f"{folder}/*/*.checkpoint") if path not in found and left_over(path))
    return found


def strangers() -> list[Path]:
    """-> files named like artefacts that say of no task that it made them: other people's, or not readable."""
    return [path for path in artefacts() if try_facts(path) is None]


def no_more(facts: dict[str, Any], path: Path) -> bool:
    """-> whether no task makes an artefact with these facts under the present settings at this path."""
    if facts["task_parameters"].get("dataset") == "folder" and not config.settings("folder").videos:
        return False
    return made_now(facts) != path


def left_over(checkpoint: Path) -> bool:
    """-> whether a training's checkpoint is of no use: the training is done, or no present setting asks for it.

    Whose it is stands in the training's log; without one it is left alone.
    """
    path = checkpoint.with_suffix(".h5")
    if path.is_file():
        return True
    try:
        task, *lines = checkpoint.with_suffix(".log").read_text(encoding="utf-8").splitlines()
        parameters = next(line for line in lines if line.startswith("task_parameters: "))
        facts = {"task": task, "task_parameters": ast.literal_eval(parameters.partition(": ")[2])}
    except (OSError, ValueError, SyntaxError, StopIteration):
        return False
    return no_more(facts, path)


def made_now(facts: dict[str, Any]) -> Path | None:
    """-> where the task of an artefact with these facts would put it under the present settings.

    None: nowhere, as one of its names or settings is not known any more.
    """
    try:
        return Register.get_task_cls(facts["task"].split("(")[0])(**facts.get("task_parameters", {})).path()
    except (UsageError, PipelineError, ParameterException, TaskClassException):
        return None


def abandoned(path: Path) -> bool:
    """-> whether a hidden file or folder is what a dead process left: of this host, or untouched for a day."""
    match = re.fullmatch(r"\.(.+)\.(\d+)\.(partial|clips.*)", path.name)
    if not match:
        return False
    if match[1].endswith(f".{socket.gethostname()}"):
        return not Path(f"/proc/{match[2]}").exists()
    return time.time() - path.stat().st_mtime > ABANDONED_S


def delete(paths: list[Path]) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def total_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())
