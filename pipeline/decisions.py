"""Decisions on overlap: for each class and pre-training set a person's, the project's, or what the rules say."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import decision_tables, labels, overlap, published_files
from pipeline.decision_tables import ANY, Decided, Decision
from pipeline.errors import PipelineError, SettingsError
from pipeline.label_texts import texts_of
from pipeline.overlap import Match
from pipeline.split_settings import SplitSettings
from pipeline.tables import read_lines, read_table

SPORTS1M = "https://raw.githubusercontent.com/gtoderici/sports-1m-dataset/32571bb90a805d8dfd5a709de352e62c8d6fb559"
# How AudioSet, YouTube-8M and Kinetics call the column of labels in their own CSV files.
LABEL_COLUMNS = ("display_name", "Name", "label", "class_name")


@dataclass(frozen=True)
class Found:
    """``rows``: by class and set. ``compared``: set -> number of its labels; ``unseen_lists``: sets without a list."""

    rows: list[Decision]
    compared: dict[str, int]
    unseen_lists: tuple[str, ...]

    def overlapping(self, class_names: Sequence[str]) -> list[bool]:
        """-> per class whether any pre-training set covers it."""
        covered = {row.class_name for row in self.rows if row.overlap == "yes"}
        return [name in covered for name in class_names]


def find(
    class_names: Sequence[str],
    dataset: str,
    pretraining: Sequence[str],
    settings: SplitSettings,
    aliases: str,
    cache: Path,
) -> Found:
    """-> every decision: the user's first, then the project's, then the rules', as far as lists can be had.

    ``pretraining``: sets that the extractors have seen; the user's lists add theirs. ``aliases``: as of [labels].
    Raises PipelineError where a list is missing and ``[split] overlap`` or the dataset asks for it.
    """
    sets = sets_of(pretraining, settings)
    texts = {name.casefold(): text for name, text in texts_of(class_names, dataset, aliases).items()}
    own_texts = [texts[name.casefold()] for name in class_names]
    project = decision_tables.of_project(class_names, dataset)
    users: Decided = {}
    if settings.decisions:
        users = decision_tables.read(Path(settings.decisions), class_names, dataset, sets, project)
    lists = {name: labels_in(Path(path)) for name, path in settings.named_lists()}
    for name in sets:
        if name not in lists:
            undecided = [each for each in class_names if _look_up((users, project), each, name) is None]
            must = bool(undecided) and (settings.overlap == "on" or (bool(project) and name == "sports1m"))
            lists |= fetched_list(name, cache, must, len(undecided))
    vectors = {}
    if settings.vectors:
        wanted = sorted({*own_texts, *(label for entries in lists.values() for label in entries)})
        vectors = labels.known_vectors(wanted, Path(settings.vectors))
    matches = {name: overlap.nearest(own_texts, entries, vectors) for name, entries in lists.items()}
    rows = decide(class_names, sets, (users, project), matches)
    compared = {name: len(entries) for name, entries in lists.items()}
    return Found(rows, compared, tuple(name for name in sets if name not in lists and name != ANY))


def not_looked_at(class_names: Sequence[str], pretraining: Sequence[str], dataset: str = "") -> Found:
    """-> the project's decisions on a dataset alone, and rows for a person to fill in."""
    project = decision_tables.of_project(class_names, dataset) if dataset else {}
    return Found(decide(class_names, tuple(pretraining) or (ANY,), (project,), {}), {}, tuple(pretraining))


def sets_of(pretraining: Sequence[str], settings: SplitSettings) -> tuple[str, ...]:
    """-> the sets that there are decisions on: those of the extractors, and those of the user's lists."""
    return tuple(dict.fromkeys((*pretraining, *(name for name, _ in settings.named_lists())))) or (ANY,)


# Lists of labels.


def labels_in(path: Path) -> list[str]:
    """-> the labels in a text file, one a line, or in a CSV file by the column that LABEL_COLUMNS names."""
    if path.suffix.lower() != ".csv":
        return read_lines(path, "[split] lists", "label")
    rows = read_table(path, ())
    column = next((name for name in LABEL_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise SettingsError(
            f"[split] lists: {path}: found columns {list(rows[0]) if rows else []}, expected one of "
            f"{', '.join(LABEL_COLUMNS)}, or a text file (.txt) with one label a line"
        )
    return list(dict.fromkeys(row[column] for row in rows if row[column]))


def fetched_list(name: str, cache: Path, must: bool, undecided: int) -> dict[str, list[str]]:
    """-> {name: labels} where they can be fetched, which is Sports-1M's alone, else nothing.

    Raises PipelineError if it ``must`` be had; else warns if that leaves classes undecided.
    """
    why = "none is given"
    if name == "sports1m":
        try:
            path = published_files.fetch("labels.txt", SPORTS1M, Path(cache) / name)
            return {name: read_lines(path, "[split] lists", "label")}
        except PipelineError as error:
            why = str(error).partition(";")[0]
    text = (
        f"CurateSplit: found no list of the labels of {name} ({why}), expected one to see which of {undecided} classes "
        f"without a decision pre-training covers: set [split] lists = {name}=FILE, or [split] overlap = off"
    )
    if must:
        raise PipelineError(text)
    if undecided and name != ANY:
        logging.getLogger(__name__).warning(text)
    return {}


# Deciding.


def _look_up(given: Sequence[Decided], name: str, pretraining: str) -> Decision | None:
    keys = ((name, pretraining), (name, ANY))
    return next((table[key] for table in given for key in keys if key in table), None)


def decide(
    class_names: Sequence[str],
    sets: Sequence[str],
    given: Sequence[Decided],
    matches: Mapping[str, Sequence[Match]],
) -> list[Decision]:
    """-> one decision per class and set: the first of ``given`` that has one, else what the rules say.

    Within a table a row on the set itself comes before one on any. The score is always the rules' own, so that a
    person sees where the two disagree.
    """
    rows = []
    for index, name in enumerate(class_names):
        for about in sets:
            match = matches[about][index] if about in matches else None
            rule, score = ("yes" if match.overlaps else "no", match.score) if match else ("", math.nan)
            own = _look_up(given, name, about)
            if own is not None:
                label = own.label or (match.label if match and own.overlap == rule == "yes" else "")
                rows.append(Decision(name, about, own.overlap, label, own.decided_by, score, rule))
            elif match is not None:
                rows.append(Decision(name, about, rule, match.label, f"rule:{match.rule or 'none'}", score, rule))
            else:
                rows.append(Decision(name, about, ""))
    return rows


def decisive(rows: Iterable[Decision]) -> dict[str, Decision]:
    """-> class -> the row that says most about it: a yes, else the highest score."""
    best: dict[str, Decision] = {}
    for row in rows:
        rank = [(d.overlap == "yes", d.overlap != "", -1 if math.isnan(d.score) else d.score)
                for d in (best.get(row.class_name, row), row)]  # fmt: skip
        if row.class_name not in best or rank[1] > rank[0]:
            best[row.class_name] = row
    return best
