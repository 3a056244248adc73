"""Why a task would run: which setting or input is not what its artefact was made from. Nothing here builds anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import config
from tasks.base import ArtefactTask
from tasks.features import DecodeVideos
from tasks.operate import graph, try_facts
from tasks.results import RunBenchmark

# How the parts of a task's identity are called.
NAMES = {"task_parameters": "parameter", "settings": "setting", "input_digests": "digest of input"}
# What stands behind inputs that are no artefacts.
OUTSIDE = {
    "here": " (files in [acquire] folders, archives and the store; failed videos to try again)",
    "source": " (the files that the dataset consists of)",
    "files": " (the features to import)",
}


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
        yield from differences(facts["digest"], task.digest, "digest")
        yield from differences(facts["inputs"], task.input_ids(), "input")
        if lack := task.lacking(facts):
            yield f"  {lack}"
        return
    yield f"{task.path()}: {'damaged' if task.path().is_file() else 'does not exist'}"
    others = [path for path in task.path().parent.glob("*.h5") if of_other_settings(path, task)]
    for other in sorted(others, key=os.path.getmtime, reverse=True):
        found = try_facts(other)
        if found:
            yield f"compared with {other}:"
            for name, now in task.identity().items():
                yield from differences(found.get(name), now, NAMES[name])
            schema = f"{found['schema']} version {found['schema_version']}"
            yield from differences(schema, f"{task.schema.name} version {task.schema.version}", "schema")
            return


def of_other_settings(path: Path, task: ArtefactTask) -> bool:
    """-> whether this is what a task of the same name would make under other settings."""
    return path != task.path() and bool(re.fullmatch(rf"{re.escape(task.name())}-[0-9a-f]{{8}}", path.stem))


def differences(before: Any, after: Any, what: str) -> Iterator[str]:
    """-> lines 'setting a.b: found x, now y', field by field."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                name = f"{what} {key}" if " " not in what or what == "digest of input" else f"{what}.{key}"
                yield from differences(before.get(key), after.get(key), name)
    elif before != after:
        yield f"  {what}{OUTSIDE.get(what.removeprefix('input '), '')}: found {before}, now {after}"
