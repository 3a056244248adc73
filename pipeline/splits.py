"""Which classes are seen, which videos are trained on: the stage that writes a split.

A curated split is made from class names and a manifest alone. First samples are left out, then classes known from the
extractors' pre-training are kept from being unseen, the others are cut into roles, and the videos of each class into
0.9/0.1 (test_seen) and again 0.9/0.1 (val_seen), as the paper does (section 4.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import cuts, h5, labels, overlap, published_files, published_split, schemas
from pipeline.cuts import Subsets, Videos
from pipeline.datasets import DATASETS
from pipeline.errors import PipelineError, SettingsError
from pipeline.label_texts import texts_of
from pipeline.overlap import Decision
from pipeline.published_split import PublishedSplit
from pipeline.schemas import ROLES, SUBSETS
from pipeline.tables import identity, read_table

KINDS = ("auto", "published", "table", "curated")


@dataclass(frozen=True)
class SplitSettings:
    """``kind``: the released split, one read from ``table``, or one made here; ``auto``: the released one where there
    is one. ``table``: CSV file with the columns video_id,class_name,subset.

    Shares are of all classes, and of a class's videos. ``exclude_classes``: names left out, separated by commas.
    ``exclude_ids``: file with one video id a line (those an extractor was pre-trained on). ``categories``: CSV file
    with the columns class_name,category, and ``exclude_categories`` the ones left out. ``overlap``: keep
    classes known from pre-training from being unseen; ``auto``: where there are decisions or lists. ``decisions``: CSV
    file that says so per class; it always wins. ``lists``: labels of pre-training sets, as name=file. ``vectors``: file
    of word vectors, to compare labels by meaning.
    ``upstream``: URL or folder of the released files.
    """

    kind: str = "auto"
    table: str = ""
    seed: int = 0
    val_unseen_share: float = 0.25
    test_unseen_share: float = 0.25
    held_out_share: float = 0.1
    exclude_classes: tuple[str, ...] = ()
    exclude_ids: str = ""
    categories: str = ""
    exclude_categories: tuple[str, ...] = ()
    overlap: str = "auto"
    decisions: str = ""
    lists: tuple[str, ...] = ()
    vectors: str = ""
    upstream: str = published_files.URL

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, KINDS)
        _check_choice("overlap", self.overlap, ("auto", "on", "off"))
        for name in ("val_unseen_share", "test_unseen_share", "held_out_share"):
            value = getattr(self, name)
            if not 0 < value < 0.5:
                raise SettingsError(f"[split] {name}: found {value}, expected a share between 0 and 0.5")
        if (self.kind == "table") != bool(self.table):
            raise SettingsError(f"[split] table: found {self.table!r}, expected a file with kind = table only")
        if self.seed < 0:
            raise SettingsError(f"[split] seed: found {self.seed}, expected 0 or more")

    def content(self) -> dict[str, Any]:
        """-> what changes the split: files by their content; where verified files come from does not matter."""
        values = asdict(self)
        del values["upstream"]
        for name in ("table", "exclude_ids", "categories", "decisions", "vectors"):
            values[name] = identity(values[name])
        values["lists"] = [(name, identity(path)) for name, _, path in (entry.partition("=") for entry in self.lists)]
        return values


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise SettingsError(f"[split] {name}: found {value!r}, expected one of {', '.join(choices)}")


def build(
    manifest_path: Path,
    dataset: str,
    feature_set: str,
    settings: SplitSettings,
    published: frozenset[str],
    output: h5.Output,
    acquired_path: Path | None = None,
) -> None:
    """Write the split of a dataset for one feature set.

    ``acquired_path``: a snapshot of what was acquired; a curated split then leaves out clips without sound before it
    draws anything.
    ``split_groups`` in ``published``: clips of one recording may fall on both sides of a cut.
    Raises PipelineError if there are too few classes or videos, or if the released lists do not fit the manifest.
    """
    with h5.read(manifest_path, schemas.MANIFEST) as file:
        names, ids, groups = (tuple(str(v) for v in file[column]) for column in ("class_name", "id", "group"))
        videos = Videos(names, ids, file["class_index"], groups)
    kind = kind_of(dataset, settings)
    cache, together = Path(output.path).parent / "published", "split_groups" not in published
    facts: dict[str, Any] = {"kind": kind, "feature_set": feature_set}
    if kind == "curated":
        excluded = exclusions(videos, settings, silent_videos(acquired_path) if acquired_path else frozenset())
        roles, decisions, subsets = curate(videos, excluded, dataset, feature_set, settings, together, cache)
        facts.update(seed=settings.seed, groups_together=together)
    else:
        split = released(dataset, feature_set, settings, cache)
        roles, subsets = apply_lists(videos, split, settings.table or f"the released lists of {dataset}")
        decisions = [Decision(False, "", 0.0, "published")] * len(names)
        facts["not_in_manifest"] = len(set(split.subsets) - set(ids))
    facts["table"] = statistics(videos, roles, subsets.subset)
    _write(videos, roles, decisions, subsets, facts, output)


def kind_of(dataset: str, settings: SplitSettings) -> str:
    """-> published, table or curated: what ``auto`` means for this dataset."""
    if settings.kind != "auto":
        return settings.kind
    return "published" if dataset in published_split.FOLDERS else "curated"


def released(dataset: str, feature_set: str, settings: SplitSettings, cache: Path) -> PublishedSplit:
    """-> the lists that ``kind`` published or table means."""
    if settings.table:
        return published_split.read_split_table(Path(settings.table), dataset, feature_set)
    return published_split.load(dataset, feature_set, settings.upstream, cache)


def apply_lists(videos: Videos, split: PublishedSplit, where: str) -> tuple[list[str], Subsets]:
    """-> (role per class, subset per video). Raises PipelineError if lists and manifest contradict each other."""
    subset, excluded = [], []
    for video, index in zip(videos.ids, videos.class_index, strict=True):
        listed, own = split.classes.get(video), videos.class_names[index]
        if listed is not None and listed.casefold() != own.casefold():
            raise PipelineError(
                f"CurateSplit: {where} give video {video!r} the class {listed!r}, the manifest says {own!r}; expected "
                "the same: fetch the annotations again"
            )
        subset.append(split.subsets.get(video, ""))
        absent = "its class is not used with these features" if video in split.dropped else "not in the released lists"
        excluded.append("" if subset[-1] else absent)
    if not any(subset):
        raise PipelineError(
            f"CurateSplit: none of the {len(videos.ids)} videos of the manifest (first: {videos.ids[:1]}) is in "
            f"{where} (first: {list(split.subsets)[:1]}); expected the same ids"
        )
    roles = [split.roles.get(name.casefold(), "unused") for name in videos.class_names]
    return roles, Subsets(subset, excluded)


def curate(
    videos: Videos,
    excluded: Sequence[str],
    dataset: str,
    feature_set: str,
    settings: SplitSettings,
    together: bool,
    cache: Path,
) -> tuple[list[str], list[Decision], Subsets]:
    """-> (role per class, overlap decisions, subset per video) of a split made here; a dataset's own roles count."""
    usable = np.zeros(len(videos.class_names), dtype=bool)
    usable[videos.class_index[[not reason for reason in excluded]]] = True
    own = dict(DATASETS[dataset].roles) if dataset in DATASETS else {}
    decisions = [Decision(False, "", 0.0, "declared" if own else "off")] * len(usable)
    if own:
        declared = cuts.declared_roles(videos.class_names, own)
        roles = [role if ok else "unused" for role, ok in zip(declared, usable, strict=True)]
    else:
        if looks_for_overlap(dataset, settings):
            decisions = find_overlap(videos.class_names, dataset, feature_set, settings, cache)
        overlapping = [decision.overlap for decision in decisions]
        shares = (settings.val_unseen_share, settings.test_unseen_share)
        roles = cuts.assign_roles(videos.class_names, usable.tolist(), overlapping, shares, settings.seed)
    units = videos if together else Videos(videos.class_names, videos.ids, videos.class_index, videos.ids)
    return roles, decisions, cuts.cut_videos(units, roles, excluded, settings.held_out_share, settings.seed)


def looks_for_overlap(dataset: str, settings: SplitSettings) -> bool:
    """-> whether ``[split] overlap`` means that pre-training is looked at."""
    given = bool(settings.decisions or settings.lists) or dataset in published_split.FOLDERS
    return settings.overlap == "on" or (settings.overlap == "auto" and given)


def find_overlap(
    class_names: Sequence[str], dataset: str, feature_set: str, settings: SplitSettings, cache: Path
) -> list[Decision]:
    """-> per class whether pre-training covers it: the user's decisions first, then the project's, then the rules."""
    pretraining = overlap.PRETRAINING.get(feature_set, ())
    own = overlap.DECISIONS / f"{dataset}_overlap.csv"
    files = [Path(settings.decisions)] if settings.decisions else []
    files += [own] if own.is_file() else []
    decided = [overlap.read_decisions(path, pretraining, class_names) for path in files]
    texts = texts_of(class_names, dataset)
    folded = {name.casefold(): text for name, text in texts.items()}
    own_texts = [folded[name.casefold()] for name in class_names]
    settled = all(any(name in table for table in decided) for name in class_names)
    lists = overlap.label_lists(settings.lists, () if settled else pretraining, cache)
    vectors = {}
    if settings.vectors:
        wanted = sorted({*own_texts, *(label for entries in lists.values() for label in entries)})
        vectors = labels.known_vectors(wanted, Path(settings.vectors))
    return overlap.decide(class_names, overlap.nearest(own_texts, lists, vectors), decided)


def silent_videos(acquired_path: Path) -> frozenset[str]:
    """-> ids of the videos that were acquired and found to have no sound."""
    with h5.read(acquired_path, schemas.ACQUIRED) as file:
        return frozenset(file["id"][file["reason"] == "no_audio"].tolist())


def exclusions(videos: Videos, settings: SplitSettings, silent: frozenset[str] = frozenset()) -> list[str]:
    """-> per video why it is left out before anything else, or empty.

    Raises SettingsError for an excluded class or category that does not exist.
    """
    category = {}
    if settings.categories:
        rows = read_table(Path(settings.categories), ("class_name", "category"))
        category = {row["class_name"].casefold(): row["category"] for row in rows}
    known = {name.casefold() for name in videos.class_names}
    for name in settings.exclude_classes:
        if name.casefold() not in known:
            raise SettingsError(f"[split] exclude_classes: found {name!r}, expected classes of this dataset")
    for name in settings.exclude_categories:
        if name not in category.values():
            raise SettingsError(
                f"[split] exclude_categories: found {name!r}, expected one of {sorted(set(category.values()))} "
                "(set [split] categories to the table that holds it)"
            )
    dropped = {name.casefold(): "excluded class" for name in settings.exclude_classes}
    for name, value in category.items():
        if value in settings.exclude_categories:
            dropped.setdefault(name, f"excluded category {value}")
    listed = _id_list(settings.exclude_ids)
    reasons = [dropped.get(videos.class_names[index].casefold(), "") for index in videos.class_index]
    for row, video in enumerate(videos.ids):
        if not reasons[row]:
            reasons[row] = "no audio" if video in silent else "on the list of excluded ids" if video in listed else ""
    return reasons


def _id_list(path: str) -> frozenset[str]:
    if not path:
        return frozenset()
    if not Path(path).is_file():
        raise SettingsError(f"[split] exclude_ids: found no file {path}, expected one video id a line")
    return frozenset(line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip())


def statistics(videos: Videos, roles: Sequence[str], subset: Sequence[str]) -> dict[str, Any]:
    """-> the paper's table 1: classes per role, videos per subset."""
    classes, counts = Counter(roles), Counter(subset)
    return {
        "classes": {name: classes[name] for name in ROLES},
        "videos": {name: counts[name] for name in SUBSETS},
        "excluded": counts[""],
    }


def _write(
    videos: Videos,
    roles: Sequence[str],
    decisions: Sequence[Decision],
    subsets: Subsets,
    facts: Mapping[str, Any],
    output: h5.Output,
) -> None:
    with output.create() as out:
        overlap.write_decisions(Path(output.path).with_suffix(".overlap.csv"), videos.class_names, decisions)
        out.write("class_name", videos.class_names)
        out.write("role", roles)
        out.write("overlap", [decision.overlap for decision in decisions])
        out.write("overlap_label", [decision.label for decision in decisions])
        out.write("overlap_score", np.array([decision.score for decision in decisions], dtype=np.float32))
        out.write("decided_by", [decision.decided_by for decision in decisions])
        out.write("id", videos.ids)
        out.write("subset", subsets.subset)
        out.write("excluded", subsets.excluded)
        out.attributes.update(facts)
