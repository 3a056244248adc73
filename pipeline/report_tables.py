"""The tables of the report: cells as text, per cent with two decimals, so that equal numbers give equal files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import h5, published_results, schemas
from pipeline.results import MEASURES, Group, Result

SCORES_COLUMNS = (
    "dataset", "feature_set", "method", "protocol", "seed", "S", "U", "HM", "ZSL", "beta", "chance_HM", "chance_ZSL",
    "weights", "split", "video_list_sha256", "coverage", "digest", "deviations", "test_videos",
    *(f"{name}_{end}" for name in MEASURES for end in ("low", "high")),
)
OUTPUTS_COLUMNS = ("dataset", "feature_set", "method", "protocol", "seed", "output", "S", "U", "HM", "ZSL", "beta")
SUMMARY_COLUMNS = (
    "dataset", "feature_set", "method", "protocol", "deviations", "seeds",
    *(f"{name}_{part}" for name in MEASURES for part in ("mean", "sd", "low", "high", "chance")),
    "published_HM", "published_ZSL", "published_HM_inside", "published_ZSL_inside", "weights",
)
SPLIT_COLUMNS = (
    "dataset", "feature_set", "counted", "classes", "classes_train", "classes_val_unseen", "classes_test_unseen",
    "videos", *schemas.SUBSETS,
)
FAILURES_COLUMNS = ("dataset", "feature_set", "id", "class", "subset", "reason", "detail")
CLASSES_COLUMNS = (
    "dataset", "feature_set", "method", "protocol", "seed", "class", "seen", "videos", "recall", "zero_shot_recall",
)


@dataclass(frozen=True)
class Table:
    """``rows``: one tuple of text per row, as wide as ``columns``."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def array(self) -> np.ndarray:
        """-> (rows, columns), also for no rows."""
        return np.array(self.rows, dtype=str).reshape(len(self.rows), len(self.columns))


def per_cent(value: float) -> str:
    """-> two decimals; empty for what is not known."""
    return f"{value:.2f}" if math.isfinite(value) else ""


def identity(result: Result) -> tuple[str, ...]:
    return tuple(str(result.fact(name)) for name in ("dataset", "feature_set", "method", "protocol", "seed"))


def scores_table(groups: Iterable[Group]) -> Table:
    """One row an evaluation: its standard output, intervals over test videos at the end."""
    rows = []
    for result, interval in ((r, i) for group in groups for r, i in zip(group.results, group.intervals, strict=True)):
        chance, facts = result.chance(), result.attributes["benchmark"]
        rows.append((
            *identity(result), *(per_cent(result.value(name)) for name in MEASURES),
            f"{float(result.scores['calibration'][0]):.2f}", per_cent(chance["HM"]), per_cent(chance["ZSL"]),
            result.weights, str(facts.get("split", "")), str(facts.get("video_list_sha256", "")),
            per_cent(result.coverage()), str(result.attributes["scores"].get("digest", "")),
            str(result.fact("deviations")), str(len(result.scores["id"])),
            *(per_cent(end) for name in MEASURES for end in interval[name]),
        ))
    return Table(SCORES_COLUMNS, rows)


def outputs_table(results: Iterable[Result]) -> Table:
    """One row for each evaluation and thing that predicts."""
    rows = []
    for result in results:
        for k, name in enumerate(result.scores["output"]):
            values = (per_cent(float(result.scores[column][k])) for column in MEASURES.values())
            rows.append((*identity(result), str(name), *values, f"{float(result.scores['calibration'][k]):.2f}"))
    return Table(OUTPUTS_COLUMNS, rows)


def readable_outputs(groups: Iterable[Group]) -> Table:
    """Methods with several outputs (AVCA has four, the paper's table 5): mean and deviation over seeds of each."""
    rows = []
    for group in groups:
        dataset, feature_set, method, protocol, deviations = group.first.group_key
        outputs = group.first.scores["output"]
        for k, name in enumerate(outputs if len(outputs) > 1 else ()):
            cells = [spread(np.array([r.scores[column][k] for r in group.results])) for column in MEASURES.values()]
            rows.append((dataset, feature_set, method, protocol + (f", {deviations}" if deviations else ""),
                         str(len(group.results)), str(name), *cells))
    return Table(("dataset", "features", "method", "protocol", "seeds", "output", *MEASURES), rows)


def spread(values: np.ndarray) -> str:
    """-> mean ± standard deviation (n - 1); of a single value, itself."""
    return per_cent(float(values.mean())) + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else "")


def published_of(group: Group) -> dict[str, tuple[float, str]]:
    """-> measure -> (published value, ``inside`` or ``outside`` of our interval, empty without one).

    Empty where nothing may be compared.
    """
    dataset, feature_set, method, *_ = group.first.group_key
    if any(result.obstacle for result in group.results):
        return {}
    out = {}
    for name, value in (published_results.value(dataset, feature_set, method) or {}).items():
        low, high = group.interval[name]
        where = "inside" if low <= value <= high else "outside"
        out[name] = (value, where if math.isfinite(low) else "")
    return out


def summary_table(groups: Iterable[Group]) -> Table:
    rows = []
    for group in groups:
        dataset, feature_set, method, protocol, deviations = group.first.group_key
        chance, published = group.first.chance(), published_of(group)
        cells = [dataset, feature_set, method, protocol, deviations, str(len(group.results))]
        for name in MEASURES:
            numbers = (group.mean(name), group.deviation(name), *group.interval[name], chance[name])
            cells += [per_cent(number) for number in numbers]
        cells += [per_cent(published[name][0]) if name in published else "" for name in ("HM", "ZSL")]
        verdict = {"inside": "yes", "outside": "no", "": ""}
        cells += [verdict[published[name][1]] if name in published else "" for name in ("HM", "ZSL")]
        rows.append((*cells, group.first.weights))
    return Table(SUMMARY_COLUMNS, rows)


def first_of_each(results: Iterable[Result]) -> list[Result]:
    """-> one result for each benchmark file."""
    return list({str(result.entry.benchmark): result for result in reversed(list(results))}.values())[::-1]


def split_table(results: Iterable[Result]) -> Table:
    """The paper's table 1 for each benchmark: videos of the split, and those of them that have features."""
    rows = []
    for result in first_of_each(results):
        where = tuple(str(result.fact(name)) for name in ("dataset", "feature_set"))
        if result.entry.split:
            with h5.read(result.entry.split, schemas.SPLIT) as file:
                roles, subset = file["role"], file["subset"]
            rows.append((*where, "split", *counted(roles, subset)))
        with h5.read(result.entry.benchmark, schemas.BENCHMARK) as file:
            roles, subset = file["class_role"], file["subset"]
        rows.append((*where, "with features", *counted(roles, subset)))
    return Table(SPLIT_COLUMNS, rows)


def counted(roles: np.ndarray, subset: np.ndarray) -> tuple[str, ...]:
    classes, videos = Counter(roles.tolist()), Counter(subset.tolist())
    of_role = [classes[role] for role in ("train", "val_unseen", "test_unseen")]
    of_subset = [videos[name] for name in schemas.SUBSETS]
    return tuple(str(number) for number in (sum(of_role), *of_role, sum(of_subset), *of_subset))


def failures_table(results: Iterable[Result]) -> Table:
    """Videos of the split without features, for each benchmark."""
    rows = []
    for result in first_of_each(results):
        where = tuple(str(result.fact(name)) for name in ("dataset", "feature_set"))
        with h5.read(result.entry.benchmark, schemas.BENCHMARK) as file:
            columns = [file[f"failed_{name}"] for name in ("id", "class_index", "subset", "reason", "detail")]
        for video, index, subset, reason, detail in zip(*columns, strict=True):
            line = " ".join(str(detail).split())
            rows.append((*where, str(video), str(result.class_name[index]), str(subset), str(reason), line))
    return Table(FAILURES_COLUMNS, rows)


def classes_table(results: Iterable[Result]) -> Table:
    rows = []
    for result in results:
        names = ("class_index", "class_unseen", "class_videos", "class_recall", "class_zero_shot")
        for index, unseen, videos, recall, zero_shot in zip(*(result.scores[name] for name in names), strict=True):
            rows.append((
                *identity(result), str(result.class_name[index]), "no" if unseen else "yes", str(videos),
                per_cent(float(recall)), per_cent(float(zero_shot)),
            ))
    return Table(CLASSES_COLUMNS, rows)


def counts(table: Table, row: str, column: str, order: Sequence[str] = ()) -> dict[str, Any]:
    """-> how often each value of ``row`` meets each of ``column``: columns, rows of (name, counts, sum), most first."""
    at, across = table.columns.index(row), table.columns.index(column)
    pairs = Counter((cells[at], cells[across]) for cells in table.rows)
    columns = [name for name in order if any(key[1] == name for key in pairs)] or sorted({key[1] for key in pairs})
    rows = [(name, [pairs[name, other] for other in columns]) for name in sorted({key[0] for key in pairs})]
    return {"columns": columns, "rows": sorted(((n, c, sum(c)) for n, c in rows), key=lambda entry: -entry[2])}


def write_markdown(path: Path, titled: Sequence[tuple[str, Table]], notes: Sequence[str]) -> None:
    """Tables with titles, then notes."""
    parts = []
    for title, table in titled:
        lines = [f"## {title}", "", "| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows]
        parts.append("\n".join(lines))
    parts += list(notes)
    Path(path).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


ESCAPES = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
           "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$"}


def latex(text: str) -> str:
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def write_latex(path: Path, titled: Sequence[tuple[str, Table]], notes: Sequence[str]) -> None:
    r"""One table environment for each, to be used with \usepackage{booktabs}; notes as comments."""
    lines = [f"% {note}" for note in notes]
    for title, table in titled:
        lines += ["", r"\begin{table}", r"\centering", rf"\caption{{{latex(title)}}}",
                  rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}", r"\toprule",
                  " & ".join(map(latex, table.columns)) + r" \\", r"\midrule"]
        lines += [" & ".join(map(latex, row)) + r" \\" for row in table.rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    Path(path).write_text("\n".join(lines).strip() + "\n", encoding="utf-8")


def readable(groups: Iterable[Group]) -> Table:
    """The headline table with mean and deviation in one cell, for Markdown and LaTeX."""
    columns = ("dataset", "features", "method", "protocol", "seeds", *MEASURES, "chance HM", "chance ZSL",
               "published HM", "published ZSL", "weights")
    rows = []
    for group in groups:
        dataset, feature_set, method, protocol, deviations = group.first.group_key
        chance, published = group.first.chance(), published_of(group)
        numbers = []
        for name in MEASURES:
            low, high = group.interval[name]
            text = spread(group.values(name))
            numbers.append(text + (f" [{low:.2f}, {high:.2f}]" if math.isfinite(low) else ""))
        theirs = ["–" if name not in published else f"{published[name][0]:.2f}" +
                  (f" ({published[name][1]})" if published[name][1] else "") for name in ("HM", "ZSL")]
        rows.append((dataset, feature_set, method, protocol + (f", {deviations}" if deviations else ""),
                     str(len(group.results)), *numbers, per_cent(chance["HM"]), per_cent(chance["ZSL"]), *theirs,
                     group.first.weights))
    return Table(columns, rows)
