"""Which classes are seen, which videos are trained on: the stage that writes a split.

A curated split is made from class names and a manifest alone. First samples are left out, then classes known from the
extractors' pre-training are kept from being unseen, the others are cut into roles, and the videos of each class into
0.9/0.1 (test_seen) and again 0.9/0.1 (val_seen), as the paper does (section 4.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import cuts, decision_tables, decisions, exclusions, h5, leakage, published_split, schemas
from pipeline.cuts import Subsets, Videos
from pipeline.datasets import DATASETS
from pipeline.decisions import Found
from pipeline.errors import PipelineError
from pipeline.published_split import PublishedSplit
from pipeline.schemas import ROLES, SUBSETS
from pipeline.split_settings import SplitSettings


def build(
    manifest_path: Path,
    dataset: str,
    pretraining: Sequence[str],
    settings: SplitSettings,
    published: frozenset[str],
    output: h5.Output,
    acquired_path: Path | None = None,
    aliases: str = "",
) -> None:
    """Write the split of a dataset for features whose extractors were pre-trained on ``pretraining``.

    ``acquired_path``: a snapshot of what was acquired; a curated split then leaves out clips without sound before it
    draws anything. ``aliases``: as of [labels], for what classes are compared with.
    ``split_groups`` in ``published``: clips of one recording may fall on both sides of a cut.
    Raises PipelineError if there are too few classes or videos, or if the released lists do not fit the manifest.
    """
    with h5.read(manifest_path, schemas.MANIFEST) as file:
        names, ids, groups = (tuple(str(v) for v in file[column]) for column in ("class_name", "id", "group"))
        videos = Videos(names, ids, file["class_index"], groups)
    kind = kind_of(dataset, settings)
    cache, together = Path(output.path).parent / "published", "split_groups" not in published
    facts: dict[str, Any] = {"kind": kind, "pretraining": list(pretraining)}
    if kind == "curated":
        silent = exclusions.silent_videos(acquired_path) if acquired_path else frozenset()
        excluded = exclusions.reasons(videos, settings, silent)
        if settings.overlap == "off" or declared_roles(dataset):
            found = decisions.not_looked_at(names, decisions.sets_of(pretraining, settings))
        else:
            found = decisions.find(names, dataset, pretraining, settings, aliases, cache)
        roles, subsets = curate(videos, excluded, dataset, found, settings, together)
        facts.update(seed=settings.seed, groups_together=together)
    else:
        split = released(dataset, pretraining, settings, cache)
        roles, subsets = apply_lists(videos, split, settings.table or f"the released lists of {dataset}")
        found = decisions.not_looked_at(names, pretraining, dataset)
        facts["not_in_manifest"] = len(set(split.subsets) - set(ids))
    facts["table"] = statistics(videos, roles, subsets.subset)
    facts["overlap"] = {"compared": found.compared, "no_list": list(found.unseen_lists)}
    facts["leakage"] = leakage.facts(videos.ids, videos.groups, subsets.subset)
    _write(videos, roles, found, subsets, facts, output)


def kind_of(dataset: str, settings: SplitSettings) -> str:
    """-> published, table or curated: what ``auto`` means for this dataset.

    Raises SettingsError for settings that have no effect on a split of this kind.
    """
    kind = settings.kind
    if kind == "auto":
        kind = "published" if dataset in published_split.FOLDERS else "curated"
    settings.refuse_unused(dataset, kind, bool(declared_roles(dataset)))
    return kind


def declared_roles(dataset: str) -> dict[str, str]:
    """-> class -> role, where the dataset itself says so."""
    return dict(DATASETS[dataset].roles) if dataset in DATASETS else {}


def released(dataset: str, pretraining: Sequence[str], settings: SplitSettings, cache: Path) -> PublishedSplit:
    """-> the lists that ``kind`` published or table means."""
    if settings.table:
        return published_split.read_split_table(Path(settings.table), dataset, pretraining)
    return published_split.load(dataset, pretraining, settings.upstream, cache)


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
    videos: Videos, excluded: Sequence[str], dataset: str, found: Found, settings: SplitSettings, together: bool
) -> tuple[list[str], Subsets]:
    """-> (role per class, subset per video) of a split made here; a dataset's own roles count."""
    usable = np.zeros(len(videos.class_names), dtype=bool)
    usable[videos.class_index[[not reason for reason in excluded]]] = True
    own = declared_roles(dataset)
    if own:
        declared = cuts.declared_roles(videos.class_names, own)
        roles = [role if ok else "unused" for role, ok in zip(declared, usable, strict=True)]
    else:
        overlapping = found.overlapping(videos.class_names)
        shares = (settings.val_unseen_share, settings.test_unseen_share)
        roles = cuts.assign_roles(videos.class_names, usable.tolist(), overlapping, shares, settings.seed)
    units = videos if together else Videos(videos.class_names, videos.ids, videos.class_index, videos.ids)
    return roles, cuts.cut_videos(units, roles, excluded, settings.held_out_share, settings.seed)


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
    found: Found,
    subsets: Subsets,
    facts: Mapping[str, Any],
    output: h5.Output,
) -> None:
    with output.create() as out:
        decision_tables.write(Path(output.path).with_suffix(".overlap.csv"), found.rows)
        out.write("class_name", videos.class_names)
        out.write("role", roles)
        out.write("overlap", found.overlapping(videos.class_names))
        decision_tables.store(out, found.rows)
        out.write("id", videos.ids)
        out.write("subset", subsets.subset)
        out.write("excluded", subsets.excluded)
        out.attributes.update(facts)
