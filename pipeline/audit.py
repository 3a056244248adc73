"""The audit of a dataset's split and labels: counts against the paper, overlaps, leakage, coverage, as HTML and CSV."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import decision_tables, decisions, h5, leakage, overlap, published_split, schemas
from pipeline.decision_tables import ANY, Decision
from pipeline.errors import ArtefactError
from pipeline.schemas import SUBSETS
from pipeline.tables import write_table

TEMPLATE = Path(__file__).parent / "audit.html"
FINDING_COLUMNS = ("section", "item", "found", "expected", "remark")
CLASS_COLUMNS = (
    "class", "role", "text", "text_of_published_vector", "words_without_vector", "overlap", "overlap_label", "score",
    "decided_by", *(f"{kind}_{name}" for name in SUBSETS for kind in ("videos", "acquired")),
)  # fmt: skip

NOT_ACQUIRED = "the audit has not looked at videos: --coverage does"


@dataclass(frozen=True)
class Finding:
    """One line of the audit. ``expected``: the published value, or empty; ``remark``: what a reader has to know."""

    section: str
    item: str
    found: str
    expected: str = ""
    remark: str = ""

    @property
    def differs(self) -> bool:
        return self.expected not in ("", self.found)


@dataclass(frozen=True)
class Inputs:
    """Columns of the four artefacts, one entry per video or class.

    ``facts``: of the split; ``decisions``: its rows on overlap; ``acquired``: id -> (status, reason, sha256).
    """

    dataset: str
    facts: dict[str, Any]
    ids: np.ndarray
    groups: np.ndarray
    class_names: np.ndarray
    class_index: np.ndarray
    subset: np.ndarray
    excluded: np.ndarray
    roles: np.ndarray
    overlaps: np.ndarray
    decisions: list[Decision]
    texts: np.ndarray
    vectors: np.ndarray
    published_vectors: np.ndarray
    missing: np.ndarray
    acquired: dict[str, tuple[str, str, str]] | None


def read_inputs(
    manifest_path: Path, labels_path: Path, split_path: Path, acquired_path: Path | None, dataset: str
) -> Inputs:
    """Raises ArtefactError if the artefacts are of different manifests."""
    with h5.read(manifest_path, schemas.MANIFEST) as file:
        manifest = {name: file[name] for name in ("id", "group", "class_name", "class_index")}
    with h5.read(split_path, schemas.SPLIT) as file:
        split = {column.name: file[column.name] for column in schemas.SPLIT.columns}
        facts = dict(file.attributes)
    with h5.read(labels_path, schemas.LABELS) as file:
        labels = {column.name: file[column.name] for column in schemas.LABELS.columns}
    acquired = None
    if acquired_path is not None:
        with h5.read(acquired_path, schemas.ACQUIRED) as file:
            columns = [file[name].tolist() for name in ("id", "status", "reason", "sha256")]
            acquired = {row[0]: row[1:] for row in zip(*columns, strict=True)}
    fits = np.array_equal(split["id"], manifest["id"]) and np.array_equal(labels["class_name"], manifest["class_name"])
    if not fits or (acquired is not None and set(acquired) != set(manifest["id"].tolist())):
        raise ArtefactError(
            f"AuditSplit: {split_path}, {labels_path} and {acquired_path} are not all of {manifest_path}, expected "
            "artefacts of one manifest: delete them and run again"
        )
    return Inputs(
        dataset=dataset, facts=facts, ids=manifest["id"], groups=manifest["group"],
        class_names=manifest["class_name"], class_index=manifest["class_index"], subset=split["subset"],
        excluded=split["excluded"], roles=split["role"], overlaps=split["overlap"],
        decisions=decision_tables.stored(split), texts=labels["text"], vectors=labels["vector"],
        published_vectors=labels["published_vector"], missing=labels["missing"], acquired=acquired,
    )  # fmt: skip


# Findings.


def findings(inputs: Inputs) -> list[Finding]:
    """-> everything there is to say, in the order of the page."""
    parts = (count_findings, label_findings, overlap_findings, leakage_findings, coverage_findings)
    return [finding for part in parts for finding in part(inputs)]


def count_findings(inputs: Inputs) -> Iterator[Finding]:
    """Classes and videos, against table 1; unseen test videos of C3D/VGGish against table 8, which doesn't fit."""
    roles, videos = Counter(inputs.roles.tolist()), Counter(inputs.subset.tolist())
    published = inputs.facts["kind"] != "curated" and inputs.dataset in published_split.TABLE_1
    with_filter = "youtube8m" in inputs.facts["pretraining"]
    classes = published_split.CLASSES[inputs.dataset][int(with_filter)] if published else ("", "", "")
    for role, expected in zip(("train", "val_unseen", "test_unseen"), classes, strict=True):
        yield Finding("counts", f"classes {role}", str(roles[role]), str(expected))
    table = published_split.TABLE_1[inputs.dataset] if published else [""] * len(SUBSETS)
    for name, expected in zip(SUBSETS, table, strict=True):
        remark = ""
        if published and with_filter and name == "test_unseen":
            expected = published_split.TABLE_8_TEST_UNSEEN[inputs.dataset]
            remark = (
                "table 8 of the paper; the released lists, filtered by the released classes, do not give its number: "
                f"{published_split.TABLE_1[inputs.dataset][4]} rows stand in the list"
            )
        yield Finding("counts", f"videos {name}", str(videos[name]), str(expected), remark)
    for reason, count in sorted(Counter(reason.partition(":")[0] for reason in inputs.excluded.tolist()).items()):
        if reason:
            yield Finding("counts", f"in no subset: {reason}", str(count))
    for name in ("train", "val_unseen", "test_seen", "test_unseen", "val_seen"):
        sizes = Counter(inputs.class_index[inputs.subset == name].tolist())
        if sizes:
            yield Finding("counts", f"videos of the smallest class in {name}", str(min(sizes.values())))


def label_findings(inputs: Inputs) -> Iterator[Finding]:
    """Classes that the released order of rows gives the vector of another class, and words without a vector."""
    used = inputs.roles != "unused"
    wrong = ~np.all(inputs.vectors == inputs.published_vectors, axis=1) & used
    names = ", ".join(inputs.class_names[wrong].tolist())
    yield Finding(
        "labels", "classes with another class's vector in the released order", f"{wrong.sum()} of {used.sum()}",
        remark=f"protocol reference keeps that order: {names}" if wrong.any() else "",
    )  # fmt: skip
    for name, words in zip(inputs.class_names[used], inputs.missing[used], strict=True):
        if words:
            yield Finding("labels", f"words of {name} without a vector", str(words))
    for text, count in Counter(inputs.texts[used].tolist()).items():
        if count > 1:
            same = inputs.class_names[used & (inputs.texts == text)].tolist()
            yield Finding("labels", f"classes with the text {text!r}", ", ".join(same), remark="not to be told apart")


def overlap_findings(inputs: Inputs) -> Iterator[Finding]:
    """Which classes pre-training covers, who says so, what nobody has looked at, and how the rules alone would do."""
    unseen = np.isin(inputs.roles, ("val_unseen", "test_unseen"))
    taken = "" if inputs.facts["kind"] == "curated" else "roles are those of the lists, whatever is decided here"
    yield Finding("overlap", "classes known from pre-training", str(int(inputs.overlaps.sum())), remark=taken)
    yield Finding("overlap", "of them unseen", str(int((inputs.overlaps & unseen).sum())), "0")
    compared = ", ".join(f"{name} ({count} labels)" for name, count in inputs.facts["overlap"]["compared"].items())
    yield Finding("overlap", "compared with the labels of", compared or "no list")
    usable = set(inputs.class_names[inputs.roles != "unused"].tolist())
    open_rows = [row for row in inputs.decisions if not row.overlap and row.class_name in usable]
    for name, count in Counter(row.pretraining for row in open_rows).items():
        remark = f"name a list of its labels, [split] lists = {name}=FILE, or decide, [split] decisions"
        if inputs.facts["kind"] != "curated":
            remark = "nothing is published about them"
        elif name == ANY:
            remark = "no pre-training set is named for these features"
        item = f"classes not looked at for {'pre-training' if name == ANY else name}"
        yield Finding("overlap", item, f"{count} of {len(usable)}", "", remark)
    for who, count in sorted(Counter(row.decided_by for row in inputs.decisions if row.overlap).items()):
        yield Finding("overlap", f"decided by {who}", str(count))
    both = [row for row in inputs.decisions if row.overlap and row.rule and not row.decided_by.startswith("rule:")]
    if both:
        found = overlap.precision_recall([r.rule == "yes" for r in both], [r.overlap == "yes" for r in both])
        for name, value in zip(("precision", "recall"), found, strict=True):
            yield Finding("overlap", f"{name} of the rules against people's decisions", f"{value:.3f}")


def leakage_findings(inputs: Inputs) -> Iterator[Finding]:
    """Recordings and files on both sides of a cut: where there are any, scores on seen classes are optimistic."""
    if inputs.facts["leakage"] is None:
        yield Finding("leakage", "clips of one recording", "not known", remark="every video counts as a recording")
    for leak in leakage.leaks(inputs.groups.tolist(), inputs.subset.tolist()) if inputs.facts["leakage"] else ():
        item = f"videos of {leak.subset} with a clip of the same recording in its training data"
        share = f"{leak.shared} of {leak.videos} ({leak.share:.2f} %)"
        yield Finding("leakage", item, share, remark=f"{leak.groups} recordings" if leak.groups else "")
    if inputs.acquired is None:
        yield Finding("leakage", "files that are the same", "not known", remark=NOT_ACQUIRED)
        return
    sums = [inputs.acquired[video][2] for video in inputs.ids.tolist()]
    for leak in leakage.leaks(sums, inputs.subset.tolist()):
        item = f"videos of {leak.subset} whose very file is in its training data"
        yield Finding("leakage", item, f"{leak.shared} of {leak.videos}")
    copies: dict[str, list[int]] = defaultdict(list)
    for row, checksum in enumerate(sums):
        if checksum:
            copies[checksum].append(row)
    mixed = [rows for rows in copies.values() if len(set(inputs.class_index[rows].tolist())) > 1]
    named = "; ".join(", ".join(inputs.ids[rows].tolist()) for rows in mixed[:5])
    yield Finding("leakage", "files that stand in two classes", str(len(mixed)), remark=named)


def coverage_findings(inputs: Inputs) -> Iterator[Finding]:
    """What could be acquired of each subset, and why the rest could not."""
    if inputs.acquired is None:
        yield Finding("coverage", "acquired", "not known", remark=NOT_ACQUIRED)
        return
    status = np.array([inputs.acquired[video][0] for video in inputs.ids.tolist()])
    for name in SUBSETS:
        here = inputs.subset == name
        got = int((here & (status == "ok")).sum())
        share = f" ({100 * got / here.sum():.1f} %)" if here.any() else ""
        yield Finding("coverage", f"acquired of {name}", f"{got} of {here.sum()}{share}")
    used = inputs.subset != ""
    reasons = Counter(inputs.acquired[video][1] for video in inputs.ids[used & (status != "ok")].tolist())
    for reason, count in reasons.most_common():
        yield Finding("coverage", f"missing: {reason}", str(count))


def class_rows(inputs: Inputs) -> list[tuple[str, ...]]:
    """-> one row per class, in the order of CLASS_COLUMNS; acquired is empty where nothing is known."""
    videos = Counter(zip(inputs.class_index.tolist(), inputs.subset.tolist(), strict=True))
    got: Counter[tuple[int, str]] = Counter()
    if inputs.acquired is not None:
        columns = (inputs.ids.tolist(), inputs.class_index.tolist(), inputs.subset.tolist())
        for video, index, name in zip(*columns, strict=True):
            got[index, name] += inputs.acquired[video][0] == "ok"
    owner = {row.tobytes(): text for row, text in zip(inputs.vectors, inputs.texts.tolist(), strict=True)}
    decisive = decisions.decisive(inputs.decisions)
    rows = []
    for index, name in enumerate(inputs.class_names.tolist()):
        given = owner.get(inputs.published_vectors[index].tobytes(), "of a class that is not used")
        counts = []
        for subset in SUBSETS:
            counts += [str(videos[index, subset]), str(got[index, subset]) if inputs.acquired is not None else ""]
        about = (inputs.roles[index], inputs.texts[index], given, inputs.missing[index])
        row = decisive[name]
        score = "" if np.isnan(row.score) else f"{row.score:.2f}"
        decision = (row.overlap, row.label, score, row.decided_by)
        rows.append((name, *(str(cell) for cell in (*about, *decision)), *counts))
    return rows


# The stage.


def audit(
    manifest_path: Path,
    labels_path: Path,
    split_path: Path,
    acquired_path: Path | None,
    dataset: str,
    output: h5.Output,
) -> None:
    """Write the audit (schemas.AUDIT), and beside it ``.html``, ``.csv`` (findings) and ``.classes.csv``.

    ``acquired_path``: None before anything is acquired; coverage and equal files are then not known.
    """
    inputs = read_inputs(manifest_path, labels_path, split_path, acquired_path, dataset)
    found, classes = findings(inputs), class_rows(inputs)
    cells = [(f.section, f.item, f.found, f.expected, f.remark) for f in found]
    with output.create() as out:
        path = Path(output.path)
        write_table(path.with_suffix(".csv"), FINDING_COLUMNS, cells)
        write_table(path.with_suffix(".classes.csv"), CLASS_COLUMNS, classes)
        path.with_suffix(".html").write_text(page(inputs, found, classes), encoding="utf-8")
        out.write("finding_columns", FINDING_COLUMNS)
        out.write("finding", cells)
        out.write("class_columns", CLASS_COLUMNS)
        out.write("class", classes)


def page(inputs: Inputs, found: Sequence[Finding], classes: Sequence[Sequence[str]]) -> str:
    """-> the HTML page, self-contained."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    sections: dict[str, list[Finding]] = defaultdict(list)
    for finding in found:
        sections[finding.section].append(finding)
    seen = ", ".join(inputs.facts["pretraining"]) or "nothing that is named"
    facts: dict[str, Any] = {"dataset": inputs.dataset, "pretraining": seen, "kind": inputs.facts["kind"]}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(**facts, sections=sections, class_columns=CLASS_COLUMNS, classes=classes)
