"""Seeing and changing the state of a run: status, plan, why, remove, orphans. Nothing here builds anything."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luigi.configuration import get_config
from luigi.parameter import ParameterException
from luigi.task_register import Register, TaskClassException

from pipeline import acquire, h5
from pipeline.errors import ArtefactError, PipelineError, SettingsError
from pipeline.progress import duration
from tasks import config
from tasks.acquire import AcquireVideos
from tasks.base import FAILED, NO_LOCKS, ArtefactTask, UsageError, lock_path
from tasks.features import DecodeVideos, ExtractFeatures
from tasks.results import RunBenchmark

STATES = ("done", "to do", "running", "failed")
# How the parts of a task's identity are called.
NAMES = {"task_parameters": "parameter", "settings": "setting", "input_digests": "digest of input"}
# A host that is not this one may still be writing; a day without a byte says that it is not.
ABANDONED_S = 86400.0


def graph(root: ArtefactTask) -> list[ArtefactTask]:
    """-> every task that ``root`` needs and itself, each once, inputs before what needs them."""
    ordered: dict[str, ArtefactTask] = {}
    stack = [(root, iter(root.requires()))]
    entered = {root.task_id}
    while stack:
        task, above = stack[-1]
        following = next((each for each in above if each.task_id not in entered), None)
        if following is None:
            ordered[task.task_id] = task
            stack.pop()
        else:
            entered.add(following.task_id)
            stack.append((following, iter(following.requires())))
    return list(ordered.values())


def state(task: ArtefactTask, memo: dict[str, bool]) -> str:
    """-> one of STATES."""
    if task.current(memo):
        return "done"
    if locked(task.path()):
        return "running"
    return "failed" if failure(task) else "to do"


def locked(path: Path) -> bool:
    """-> whether a process on this machine is making this artefact."""
    try:
        with open(lock_path(path)) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # NFS gives exclusive ones to writers only
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOENT, *NO_LOCKS):
            raise
    return False


def failure(task: ArtefactTask) -> str:
    """-> the last line of the log of a task that failed, else empty."""
    try:
        text = task.log_path().read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.strip().splitlines()[-1] if f"\n{FAILED} at " in text else ""


@dataclass
class Group:
    """Tasks of one kind: all shards of a feature set, or all seeds of a method."""

    label: str
    tasks: list[ArtefactTask] = field(default_factory=list)
    states: Counter = field(default_factory=Counter)
    stored_bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    videos: int = 0
    failures: Counter = field(default_factory=Counter)

    def add(self, task: ArtefactTask, found: str) -> None:
        self.tasks.append(task)
        self.states[found] += 1
        facts = task.output().facts() if found == "done" and task.path().is_file() else None
        if facts:
            self.stored_bytes += task.path().stat().st_size
            self.seconds.append(facts["seconds"])
            self.videos += facts.get("videos", 0)
            self.failures.update(facts.get("failures", {}))

    def seconds_left(self) -> float | None:
        """-> seconds of work to do, from the mean of what is done; None if nothing is done to tell from."""
        open_tasks = len(self.tasks) - self.states["done"]
        if not open_tasks:
            return 0.0
        return open_tasks * sum(self.seconds) / len(self.seconds) if self.seconds else None


def groups(root: ArtefactTask) -> list[Group]:
    """-> the tasks of a run by kind, in flow order, with their states. One pass, one memo."""
    memo: dict[str, bool] = {}
    found: dict[str, Group] = {}
    for task in graph(root):
        if isinstance(task, RunBenchmark):
            continue
        parts = [type(task).__name__, getattr(task, "feature_set", ""), getattr(task, "method", "")]
        label = " ".join(part for part in parts if part)
        found.setdefault(label, Group(label)).add(task, state(task, memo))
    return list(found.values())


def size(count: float) -> str:
    """-> '12.3 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def status(root: ArtefactTask) -> Iterator[str]:
    """-> lines: done, to do, running and failed of each kind of task; videos; bytes; time left."""
    kinds = groups(root)
    yield f"{root.dataset}: artefacts under {Path(config.settings('paths').root).resolve()}"
    yield f"{'':42}{'done':>9}{'to do':>8}{'running':>9}{'failed':>8}{'stored':>10}{'mean':>9}"
    for kind in kinds:
        counts = [kind.states[name] for name in STATES]
        mean = f"{sum(kind.seconds) / len(kind.seconds):.1f} s" if kind.seconds else ""
        share = f"{counts[0]}/{len(kind.tasks)}"
        yield f"{kind.label:42}{share:>9}{counts[1] or '':>8}{counts[2] or '':>9}{counts[3] or '':>8}" \
              f"{size(kind.stored_bytes):>10}{mean:>9}"
    for kind in kinds:
        if kind.label.startswith("ExtractFeatures") and kind.videos:
            bad = ", ".join(f"{reason} {count}" for reason, count in sorted(kind.failures.items()))
            total = sum(kind.failures.values())
            yield f"{kind.label}: {kind.videos - total} videos with features, {total} failed{': ' + bad if bad else ''}"
    for kind in kinds:
        for task in kind.tasks:
            if kind.states["failed"] and (reason := failure(task)) and not task.complete():
                yield f"failed: {kind.label} {task.name()}: {reason}"
    yield time_left(kinds)


def summary(root: ArtefactTask) -> Iterator[str]:
    """-> the last lines of a run: what failed, where to look, what to do next."""
    if root.complete():
        yield f"Report: {root.report().page().resolve()}" if isinstance(root, RunBenchmark) else f"Done: {root.path()}"
        return
    memo: dict[str, bool] = {}
    tasks = [task for task in graph(root) if not isinstance(task, RunBenchmark)]
    unfinished = [task for task in tasks if state(task, memo) != "done"]
    for task in unfinished:
        if reason := failure(task):
            yield f"failed: {type(task).__name__} {task.name()}: {reason}; log: {task.log_path()}"
    yield f"Not finished: {len(tasks) - len(unfinished)} of {len(tasks)} tasks are done; " \
          "mend what failed and give the same command again: it goes on from there"


def time_left(kinds: list[Group]) -> str:
    left = [kind.seconds_left() for kind in kinds if kind.states["done"] < len(kind.tasks)]
    if not left:
        return "everything is done"
    known = [seconds for seconds in left if seconds is not None]
    unknown = left[len(known) :]
    workers = get_config().getint("core", "workers", 1)
    text = f"about {duration(sum(known) / workers)} with {workers} workers" if known else "not known yet"
    return f"time left: {text}" + (f", {len(unknown)} kinds not counted of which none is done yet" if unknown else "")


def plan(root: ArtefactTask) -> Iterator[str]:
    """-> lines: what a run would do and store, estimated from artefacts of the same kind, whatever their settings."""
    experience = history()
    total = 0.0
    for kind in groups(root):
        count = len(kind.tasks) - kind.states["done"]
        if not count:
            continue
        family = kind.label.split()[0]
        estimate = "no estimate: none was made here before"
        if family in experience:
            seconds, stored = experience[family]
            total += count * seconds
            estimate = f"about {duration(count * seconds)} of one worker, {size(count * stored)}"
        yield f"{kind.label}: {count} of {len(kind.tasks)}; {estimate}{to_fetch(kind.tasks[0])}"
    yield f"in all about {duration(total)} of one worker" if total else "nothing to estimate, or nothing to do"


def to_fetch(task: ArtefactTask) -> str:
    """-> how much acquisition would fetch, as the end of a line; empty for other tasks and for nothing."""
    if not isinstance(task, AcquireVideos):
        return ""
    videos, count = acquire.outstanding(task.dataset, config.settings("acquire"), task.path().parent)
    if not videos:
        return ""
    return f"; at most {videos} videos to find or fetch" + (f", about {size(count)}" if count else "")


def history() -> dict[str, tuple[float, float]]:
    """-> task family -> mean seconds and bytes of all its artefacts."""
    seen: dict[str, list[tuple[float, int]]] = {}
    for path in artefacts():
        facts = try_facts(path)
        if facts:
            seen.setdefault(facts["task"].split("(")[0], []).append((facts["seconds"], path.stat().st_size))
    return {
        family: (sum(s for s, _ in rows) / len(rows), sum(b for _, b in rows) / len(rows))
        for family, rows in seen.items()
    }


def artefacts() -> list[Path]:
    """-> every artefact under the root, whatever made it."""
    root = Path(config.settings("paths").root)
    return sorted(path for path in root.glob("*/*/*.h5") if not path.name.startswith("."))


def try_facts(path: Path) -> dict[str, Any] | None:
    try:
        facts = h5.facts(path)
    except ArtefactError:
        return None
    return facts if "task" in facts else None


def why(root: ArtefactTask) -> Iterator[str]:
    """-> lines: the settings and inputs that differ from those of the artefact that exists, and where that begins."""
    task = root.report() if isinstance(root, RunBenchmark) else root
    memo: dict[str, bool] = {}
    if task.current(memo):
        yield f"{task.output()}: complete, it would not run"
        return
    yield from explained(task, memo)
    first: dict[str, list[ArtefactTask]] = {}
    for each in graph(task):
        if isinstance(each, DecodeVideos) and not config.settings("decoding").keep:
            continue  # what is gone can't be compared; what reads it knows its settings
        if not each.current(memo) and all(above.current(memo) for above in each.inputs().values()):
            first.setdefault(type(each).__name__, []).append(each)
    for family, causes in first.items():
        if task not in causes:
            yield f"begins at {family}" + (f", {len(causes)} of them; the first:" if len(causes) > 1 else ":")
            yield from explained(causes[0], memo)


def explained(task: ArtefactTask, memo: dict[str, bool]) -> Iterator[str]:
    """-> lines: what an artefact that is not current was made from, against what it would be made from now."""
    facts = try_facts(task.path())
    if facts:
        stale = [name for name, above in task.inputs().items() if not above.current(memo)]
        if stale:
            shown = ", ".join(stale[:5]) + (f" and {len(stale) - 5} more" if len(stale) > 5 else "")
            yield f"{task.path()}: exists, but its inputs have to run first: {shown}"
            return
        yield f"{task.path()}: exists, but is not what would be made now"
        yield from differences(facts["inputs"], task.input_ids(), "input")
        return
    yield f"{task.path()}: {'damaged' if task.path().is_file() else 'does not exist'}"
    others = sorted(task.path().parent.glob(f"{glob.escape(task.name())}-*.h5"), key=os.path.getmtime, reverse=True)
    for other in others:
        found = try_facts(other) if other != task.path() else None
        if found:
            yield f"compared with {other}:"
            for name, now in task.identity().items():
                yield from differences(found.get(name), now, NAMES[name])
            return


def differences(before: Any, after: Any, what: str) -> Iterator[str]:
    """-> lines 'setting a.b: found x, now y', field by field."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                name = f"{what} {key}" if " " not in what or what == "digest of input" else f"{what}.{key}"
                yield from differences(before.get(key), after.get(key), name)
    elif before != after:
        yield f"  {what}: found {before}, now {after}"


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
    found = [*root.glob("*/*/*.h5.damaged"), *(path for path in root.glob("*/*/.*") if abandoned(path))]
    for path in artefacts():
        facts = try_facts(path)
        if facts is None:
            found.append(path)
        elif facts.get("task_parameters", {}).get("dataset") == "folder" and not config.settings("folder").videos:
            continue
        elif made_now(facts) != path:
            found += files_of(path)
    return found


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
    match = re.fullmatch(r"\..*\.h5\.(.+)\.(\d+)\.(partial|clips.*)", path.name)
    if not match:
        return False
    if match[1] == socket.gethostname():
        return not Path(f"/proc/{match[2]}").exists()
    return time.time() - path.stat().st_mtime > ABANDONED_S


def delete(paths: list[Path]) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def total_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())
