"""Seeing the state of a run: status, plan and the summary at its end. Nothing here builds anything."""

from __future__ import annotations

import errno
import fcntl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luigi.configuration import get_config
from luigi.task_register import Register

from extractors import weights
from pipeline import acquire, h5
from pipeline.errors import ArtefactError
from pipeline.progress import duration
from tasks import config
from tasks.acquire import AcquireVideos
from tasks.base import FAILED, NO_LOCKS, ArtefactTask, lock_path
from tasks.features import FetchWeights
from tasks.results import RunBenchmark

STATES = ("done", "to do", "running", "failed")

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
        label = kind_of(type(task).__name__, task.param_kwargs)
        found.setdefault(label, Group(label)).add(task, state(task, memo))
    return list(found.values())


def kind_of(family: str, parameters: dict[str, Any]) -> str:
    """-> 'TrainStage1 selavi avca': tasks of one dataset and one kind take about the same time."""
    return " ".join(filter(None, (family, parameters.get("feature_set", ""), parameters.get("method", ""))))


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
    """-> lines: what a run would do and store, estimated from artefacts of the same dataset and kind."""
    experience = history(root.dataset)
    total, unknown = 0.0, 0
    for kind in groups(root):
        count = len(kind.tasks) - kind.states["done"]
        if not count:
            continue
        estimate = f"no estimate: none was made here for {root.dataset}"
        if kind.label in experience:
            seconds, stored = experience[kind.label]
            total += count * seconds
            estimate = f"about {duration(count * seconds)} of one worker, {size(count * stored)}"
        else:
            unknown += 1
        yield f"{kind.label}: {count} of {len(kind.tasks)}; {estimate}{to_fetch(kind.tasks[0])}"
    if not total:
        yield "nothing to estimate, or nothing to do"
    else:
        yield f"in all about {duration(total)} of one worker" + (f", and {unknown} kinds not known" if unknown else "")


def to_fetch(task: ArtefactTask) -> str:
    """-> how much acquisition or the weights would fetch, as the end of a line; empty for nothing."""
    if isinstance(task, FetchWeights):
        missing = weights.to_fetch(task.feature_set, config.settings("weights"), task.published, task.dataset)
        return f"; about {size(missing)} of weights to fetch" if missing else ""
    if not isinstance(task, AcquireVideos):
        return ""
    videos, count = acquire.outstanding(task.dataset, config.settings("acquire"), task.path().parent)
    if not videos:
        return ""
    return f"; at most {videos} videos to find or fetch" + (f", about {size(count)}" if count else "")


def history(dataset: str) -> dict[str, tuple[float, float]]:
    """-> kind of task -> mean seconds and bytes of its artefacts of this dataset, whatever their settings."""
    seen: dict[str, list[tuple[float, int]]] = {}
    for path in artefacts():
        facts = try_facts(path)
        if facts and (parameters := facts["task_parameters"]).get("dataset") == dataset:
            kind = kind_of(facts["task"].split("(")[0], parameters)
            seen.setdefault(kind, []).append((facts["seconds"], path.stat().st_size))
    return {
        kind: (sum(s for s, _ in rows) / len(rows), sum(b for _, b in rows) / len(rows))
        for kind, rows in seen.items()
    }


def folders() -> set[str]:
    """-> names of the folders under the root that tasks write artefacts to."""
    kinds = (Register.get_task_cls(name) for name in Register.task_names())
    return {kind.folder for kind in kinds if issubclass(kind, ArtefactTask) and hasattr(kind, "folder")}


def artefacts() -> list[Path]:
    """-> every file that may be an artefact, in the folders of tasks under the root, whatever made it."""
    root = Path(config.settings("paths").root)
    found = (path for folder in folders() for path in root.glob(f"{folder}/*/*.h5"))
    return sorted(path for path in found if not path.name.startswith("."))


def try_facts(path: Path) -> dict[str, Any] | None:
    """-> facts of an artefact that a task made; None for what can't be read and for other people's files."""
    try:
        facts = h5.facts(path)
    except ArtefactError:
        return None
    return facts if "task" in facts and "task_parameters" in facts else None
