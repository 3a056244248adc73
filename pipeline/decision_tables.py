"""Tables of decisions on overlap: a person's, the project's, and the one beside every split.

That one (``COLUMNS``, ``score``, ``rule``) is there to be read, corrected and given back as ``[split] decisions``. A
row of a person's table counts if a person has signed it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from pipeline import h5
from pipeline.errors import SettingsError
from pipeline.label_texts import hint, published_texts
from pipeline.tables import read_table, write_table

TABLES = Path(__file__).parent / "datasets"
PRETRAINING = ("sports1m", "youtube8m")  # the sets that the published splits look at
ANY = "any"
PUBLISHED = "published"  # signature of the project's own tables
COLUMNS = ("class_name", "pretraining", "overlap", "label", "decided_by")


@dataclass(frozen=True)
class Decision:
    """On one class and one pre-training set.

    ``overlap``: yes, no, or empty where nobody has looked. ``label``: of the set, nearest to the class or what a person
    names. ``score``: of that label by the rules, NaN without a list. ``rule``: what the rules alone say, like overlap.
    """

    class_name: str
    pretraining: str
    overlap: str
    label: str = ""
    decided_by: str = ""
    score: float = math.nan
    rule: str = ""


Key = tuple[str, str]  # class name, pre-training set
Decided = Mapping[Key, Decision]


def of_project(class_names: Sequence[str], dataset: str) -> dict[Key, Decision]:
    """-> the project's own decisions on a dataset, if it has any."""
    path = TABLES / f"{dataset}_overlap.csv"
    return read(path, class_names, dataset) if path.is_file() else {}


def read(
    path: Path,
    class_names: Sequence[str],
    dataset: str,
    sets: Sequence[str] = (),
    project: Decided | None = None,
) -> dict[Key, Decision]:
    """-> what a table decides, by class and set. ``project``: what counts anyway; None: this is the project's own.

    Left out are rows without an answer and those that rules or project have signed. Raises SettingsError for an unknown
    class or set, an answer that is neither yes nor no, two answers to one question, and one that nobody has signed for.
    """
    own = {name.casefold(): name for name in class_names}
    known = dict.fromkeys([*class_names, *published_texts(dataset)])
    folded = {name.casefold() for name in known}
    set_named = {name.casefold(): name for name in (*PRETRAINING, *sets, ANY)}
    found: dict[Key, Decision] = {}
    for row in read_table(path, COLUMNS):
        name, about, answer = row["class_name"], row["pretraining"], row["overlap"]
        if name.casefold() not in folded:
            raise SettingsError(f"{path}: found class {name!r}, expected classes of this dataset{hint(name, known)}")
        if about.casefold() not in set_named:
            raise SettingsError(
                f"{path}: found pre-training set {about!r} for class {name!r}, expected one of "
                f"{', '.join(set_named.values())}, or a name of [split] lists{hint(about, set_named)}"
            )
        if answer not in ("yes", "no", ""):
            raise SettingsError(f"{path}: found overlap {answer!r} for class {name!r}, expected yes or no")
        key = (own.get(name.casefold(), name), set_named[about.casefold()])
        if not answer or (project is not None and _signed_by_nobody(path, row, key, project)):
            continue
        if key in found and found[key].overlap != answer:
            raise SettingsError(f"{path}: found yes and no for class {name!r} and {about}, expected one of them")
        found[key] = Decision(*key, answer, row["label"], row["decided_by"] or "unsigned")
    return found


def _signed_by_nobody(path: Path, row: Mapping[str, str], key: Key, project: Decided) -> bool:
    """-> whether a row only repeats what rules or project say. Raises SettingsError if it is signed so and does not."""
    who = row["decided_by"]
    if who.startswith("rule:"):
        theirs = row.get("rule", "")
    elif who == PUBLISHED:
        theirs = project[key].overlap if key in project else ""
    else:
        return False
    if theirs != row["overlap"]:
        raise SettingsError(
            f"{path}: found overlap {row['overlap']!r} for class {key[0]!r} and {key[1]} signed {who!r}, who said "
            f"{theirs or 'nothing'!r}; expected the name of who decided in decided_by"
        )
    return True


def write(path: Path, rows: Sequence[Decision]) -> None:
    """Write every decision with its score, to be read, corrected and given back as ``[split] decisions``."""
    cells = [
        (d.class_name, d.pretraining, d.overlap, d.label, d.decided_by,
         "" if math.isnan(d.score) else f"{d.score:.2f}", d.rule)
        for d in rows
    ]  # fmt: skip
    write_table(path, (*COLUMNS, "score", "rule"), cells)


def store(out: h5.Writer, rows: Sequence[Decision]) -> None:
    """Write the rows as columns of a split artefact."""
    for field in fields(Decision):
        values = [getattr(row, field.name) for row in rows]
        out.write(f"decision/{field.name}", np.array(values, np.float32) if field.name == "score" else values)


def stored(columns: Mapping[str, np.ndarray]) -> list[Decision]:
    """-> the rows of a split artefact."""
    names = [field.name for field in fields(Decision)]
    return [Decision(*row) for row in zip(*(columns[f"decision/{name}"].tolist() for name in names), strict=True)]
