"""What the page shows: numbers in words, pictures, provenance; the template report.html puts them in place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import h5, plots, published_results, report_tables, schemas, tsne
from pipeline.report_provenance import dataset_facts, environment_facts, provenance
from pipeline.report_tables import Table, published_of
from pipeline.results import MEASURES, Group, Result

if TYPE_CHECKING:
    from pipeline.report import ReportSettings

GENERATED_NOTE = "computed with generated weights, not comparable with published numbers"
FEATURE_TITLES = {"selavi": "SeLaVi", "c3d_vggish": "C3D / VGGish"}
METHOD_TITLES = {
    "avca": "AVCA", "ale": "ALE", "sje": "SJE", "devise": "DEVISE", "apn": "APN", "fvaegan": "f-VAEGAN-D2",
    "cjme": "CJME", "avgzslnet": "AVGZSLNet",
}
SUBSET_TITLES = {"train": "tr", "val_seen": "v(S)", "val_unseen": "v(U)", "test_seen": "ts(S)", "test_unseen": "ts(U)"}


def notes(results: Sequence[Result], groups: Sequence[Group]) -> list[str]:
    """-> what a reader has to know beside the numbers, one sentence or two each."""
    found = [
        "Per cent. Mean and standard deviation over seeds; in brackets the 95 % bootstrap interval of the mean over "
        "seeds under drawing the test videos anew. Chance: 100 / all test classes for S, U and HM, 100 / unseen test "
        "classes for ZSL."
    ]
    generated = list(dict.fromkeys(feature_title(result) for result in results if result.weights == "generated"))
    if generated:
        found.append(f"{' and '.join(generated)}: {GENERATED_NOTE}.")
    if any(published_of(group) for group in groups):
        found.append(f"Published values: {published_results.SOURCE}. Inside: within our interval.")
    reasons = [(feature_title(r), r.obstacle) for r in results if r.fact("dataset") in published_results.DATASETS]
    found += [f"{where}: no published values beside these, because: {reason}."
              for where, reason in dict.fromkeys(reasons) if reason]
    by_origin: dict[str, list[str]] = {}
    for group in groups:
        name = f"{method_title(group.first)} on {feature_title(group.first)}"
        by_origin.setdefault(group.first.origin, []).append(name)
    found += [f"Hyper-parameters of {', '.join(dict.fromkeys(names))}: {origin}." for origin, names in by_origin.items()
              if origin != published_results.PUBLISHED]
    for result in report_tables.first_of_each(results):
        facts, where = result.attributes["benchmark"], feature_title(result)
        if result.coverage() < 100:
            found.append(f"{where}: features of {result.coverage():.1f} % of the split's videos; see failures.")
        found.append(f"{where}: {leakage(result.attributes.get('split', {}).get('leakage'))}")
        if facts.get("classes_without_videos"):
            found.append(f"{where}: no video of these classes has features, they are not used: "
                         f"{', '.join(facts['classes_without_videos'])}.")
        if facts.get("label_order") == "published":
            found.append(f"{where}: label vectors in the released order, which gives "
                         f"{len(facts.get('shifted_classes', ()))} classes the vector of another one.")
    empty = sorted({name for r in results for name in r.attributes["scores"].get("empty_classes", ())})
    if empty:
        found.append(f"No test video, left out of the means: {', '.join(empty)}.")
    return found


def leakage(shared: Mapping[str, Sequence[int]] | None) -> str:
    """-> what the split's own count says: subset -> [videos with a sibling in the training data, videos]."""
    if shared is None:
        return "which videos are of one recording is not known, and so not whether training has seen their siblings."
    parts = {title: shared[name] for name, title in SUBSET_TITLES.items() if name in shared}
    counts = ", ".join(f"{title} {count} of {videos}" for title, (count, videos) in parts.items())
    optimistic = any(count for count, _ in shared.values())
    return (
        f"videos of the split with a clip of the same recording in their training data: {counts}"
        f"{'; scores on them are optimistic' if optimistic else ''}."
    )


def feature_title(result: Result) -> str:
    return FEATURE_TITLES.get(str(result.fact("feature_set")), str(result.fact("feature_set")))


def method_title(result: Result) -> str:
    return METHOD_TITLES.get(str(result.fact("method")), str(result.fact("method")))


def render(
    results: Sequence[Result], groups: Sequence[Group], tables: dict[str, Table], settings: ReportSettings,
    advance: Callable[[], None],
) -> str:
    """-> the whole page."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
    inputs: dict[str, list[plots.Cloud]] = {}
    sections = []
    for number, group in enumerate(groups):
        sections.append(section(group, f"g{number}", settings, inputs))
        advance()
    datasets = list(dict.fromkeys(str(result.fact("dataset")) for result in results))
    page = template.render(
        title=", ".join(datasets), datasets=[dataset_facts(name) for name in datasets],
        generated=any(r.weights == "generated" for r in results), generated_note=GENERATED_NOTE,
        notes=notes(results, groups), headline=[headline(group) for group in groups], measures=list(MEASURES),
        compared=any(published_of(group) for group in groups), overview=overview(groups), sections=sections,
        outputs=report_tables.readable_outputs(groups),
        split=as_dicts(tables["split"]), failures=failures(tables["failures"], settings.listed_failures),
        videos=videos_by_subset(results), environment=environment_facts(results), subsets=SUBSET_TITLES,
    )
    advance()
    return page + "\n"


def headline(group: Group) -> dict[str, Any]:
    first, published = group.first, published_of(group)
    cells = []
    chance = first.chance()
    for name in MEASURES:
        low, high = group.interval[name]
        deviation = group.deviation(name)
        cells.append({
            "mean": f"{group.mean(name):.2f}", "sd": f"{deviation:.2f}" if math.isfinite(deviation) else "",
            "interval": f"{low:.1f} – {high:.1f}" if math.isfinite(low) else "", "chance": f"{chance[name]:.2f}",
            "strong": name in ("HM", "ZSL"),
            "published": f"{published[name][0]:.2f}" if name in published else "",
            "inside": published[name][1] if name in published else "",
        })
    return {
        "dataset": str(first.fact("dataset")), "features": feature_title(first), "method": method_title(first),
        "protocol": str(first.fact("protocol")), "deviations": str(first.fact("deviations")),
        "seeds": ", ".join(map(str, group.seeds)), "cells": cells, "generated": first.weights == "generated",
        "weights": first.weights, "obstacle": first.obstacle,
    }


def overview(groups: Sequence[Group]) -> str:
    names = [f"{method_title(g.first)}, {feature_title(g.first)}" for g in groups]
    if len({g.first.fact("dataset") for g in groups}) > 1:
        names = [f"{name}, {g.first.fact('dataset')}" for name, g in zip(names, groups, strict=True)]
    chosen = ("HM", "ZSL")
    values = np.array([[g.mean(name) for name in chosen] for g in groups])
    ends = np.array([[g.interval[name] for name in chosen] for g in groups])  # (groups, 2, 2)
    errors = np.abs(ends - values[:, :, None])
    chance = np.array([[g.first.chance()[name] for name in chosen] for g in groups])
    return plots.overview(names, values, errors, chance, "overview")


def section(
    group: Group, key: str, settings: ReportSettings, inputs: dict[str, list[plots.Cloud]]
) -> dict[str, Any]:
    """-> pictures and facts of one group."""
    results, first = group.results, group.first
    curves = [np.stack([r.scores[name] for r in results]) for name in ("curve_seen", "curve_unseen")]
    chosen = [(float(r.scores["calibration"][0]), r.value("S"), r.value("U")) for r in results]
    unseen = first.scores["class_unseen"]
    names = [str(name) for name in first.class_name[first.scores["class_index"]]]
    order = np.concatenate((np.flatnonzero(~unseen), np.flatnonzero(unseen)))
    confusion = sum(result.scores["confusion"].astype(np.int64) for result in results)
    assert isinstance(confusion, np.ndarray)
    values = np.stack([result.scores["class_recall"] for result in results], axis=1)
    return {
        "key": key, "title": f"{method_title(first)} on {feature_title(first)}", "dataset": str(first.fact("dataset")),
        "protocol": str(first.fact("protocol")), "generated": first.weights == "generated", "seeds": len(results),
        "chance": first.chance(), "calibration": [f"{beta:.1f}" for beta, _, _ in chosen],
        "stacking": plots.stacking(first.scores["beta"], curves[0], curves[1], chosen, f"{key}s"),
        "training": plots.training(training_panels(results), f"{key}l"),
        "embeddings": plots.embeddings(*clouds(first, settings, inputs), f"{key}t"),
        "recalls": plots.recalls(names, values, unseen, f"{key}r"),
        "confusion": plots.confusion([names[k] for k in order], confusion[np.ix_(order, order)],
                                     int((~unseen).sum()), f"{key}c"),
        "classes": class_rows(group), "provenance": provenance(group),
    }


def training_panels(results: Sequence[Result]) -> list[tuple[str, str, list[plots.Curve]]]:
    chosen = [int(result.attributes["stage1"].get("chosen_epoch", -1)) for result in results]

    def curves(stage: str, column: str, marks: Sequence[int]) -> list[plots.Curve]:
        return [plots.Curve(f"seed {result.seed}", getattr(result, stage)[column], mark)
                for result, mark in zip(results, marks, strict=True)]

    none = [-1] * len(results)
    panels = [("Stage 1: training loss", "loss", curves("stage1", "loss", none)),
              ("Stage 1: validation HM", "per cent", curves("stage1", "harmonic_mean", chosen)),
              ("Stage 2: training loss", "loss", curves("stage2", "loss", none))]
    second = curves("stage2", "harmonic_mean", none)
    if any(np.isfinite(curve.values).any() for curve in second):
        panels.append(("Stage 2: HM", "per cent", second))
    return panels


def clouds(
    result: Result, settings: ReportSettings, inputs: dict[str, list[plots.Cloud]]
) -> tuple[list[plots.Cloud], list[str], list[bool]]:
    """-> t-SNE of both inputs and of the learnt embedding, for the first seed; names of the classes; unseen or not."""
    scores = result.scores
    choice = tsne.choose(
        str(result.fact("dataset")), result.class_name, scores["class_index"], scores["class_unseen"], scores["target"],
        settings.tsne_seen_classes, settings.tsne_unseen_classes, settings.tsne_videos,
    )
    place = {int(k): at for at, k in enumerate(choice.classes)}
    classes = np.array([place[int(k)] for k in scores["target"][choice.rows]], dtype=int)
    key = str(result.entry.benchmark)
    if key not in inputs:
        inputs[key] = [tsne.cloud(title, features, classes, settings.seed)
                       for title, features in input_features(result, choice.rows)]
    with h5.read(result.entry.scores, schemas.SCORES) as file:
        embedding, labels = file.pick("embedding", choice.rows), file["label_embedding"]
    at = np.searchsorted(scores["class_index"], choice.classes)
    learnt = tsne.cloud("Learnt embedding", embedding, classes, settings.seed, labels[at], range(len(at)))
    names = [str(name) for name in result.class_name[choice.classes]]
    return [*inputs[key], learnt], names, choice.unseen.tolist()


def input_features(result: Result, rows: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """-> (title, features of the test videos ``rows``) of sound and picture."""
    with h5.read(result.entry.benchmark, schemas.BENCHMARK) as file:
        where = {str(video): row for row, video in enumerate(file["id"])}
        wanted = [where[str(video)] for video in result.scores["id"][rows]]
        read = [file.pick(name, wanted) for name in ("audio", "video")]
    return [("Audio features (input)", read[0]), ("Visual features (input)", read[1])]


def class_rows(group: Group) -> list[dict[str, Any]]:
    """-> one row a class, seen first, then by name: mean recall over seeds."""
    scores = group.first.scores
    rows = []
    for k, index in enumerate(scores["class_index"]):
        recall = np.array([r.scores["class_recall"][k] for r in group.results])
        zero_shot = np.array([r.scores["class_zero_shot"][k] for r in group.results])
        rows.append({"name": str(group.first.class_name[index]), "unseen": bool(scores["class_unseen"][k]),
                     "videos": int(scores["class_videos"][k]), "recall": report_tables.per_cent(float(recall.mean())),
                     "zero_shot": report_tables.per_cent(float(zero_shot.mean()))})
    return sorted(rows, key=lambda row: (row["unseen"], row["name"]))


def as_dicts(table: Table) -> list[dict[str, str]]:
    """-> rows by column, with the feature set's name for people."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return [{**row, "features": FEATURE_TITLES.get(row["feature_set"], row["feature_set"])} for row in rows]


def failures(table: Table, listed: int) -> dict[str, Any]:
    """-> for each benchmark that lost videos: counts by reason and subset, and by class and reason; the first ones."""
    blocks = []
    for dataset, feature_set in dict.fromkeys(row[:2] for row in table.rows):
        part = Table(table.columns, [row for row in table.rows if row[:2] == (dataset, feature_set)])
        blocks.append({
            "dataset": dataset, "features": FEATURE_TITLES.get(feature_set, feature_set), "total": len(part.rows),
            "by_reason": report_tables.counts(part, "reason", "subset", schemas.SUBSETS),
            "by_class": report_tables.counts(part, "class", "reason"),
        })
    return {"total": len(table.rows), "blocks": blocks, "listed": as_dicts(table)[:listed]}


def videos_by_subset(results: Sequence[Result]) -> list[dict[str, Any]]:
    """-> for each benchmark, of each subset the videos of the split and how many of them have features."""
    return [
        {"features": feature_title(r), "dataset": str(r.fact("dataset")),
         "counts": r.attributes["benchmark"].get("coverage") or {}, "share": report_tables.per_cent(r.coverage())}
        for r in report_tables.first_of_each(results)
    ]
