"""Roles of classes and subsets of videos: shares, strata, groups, exclusions, and every way to fail."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from pipeline import cuts, h5, schemas, splits
from pipeline.cuts import Videos
from pipeline.errors import PipelineError, SettingsError
from pipeline.split_settings import SplitSettings
from tests.pipeline.artefacts import write_acquired, write_manifest

PUBLISHED = frozenset({"split_groups"})


def videos_of(sizes, group=lambda video: video):
    """``sizes``: class name -> number of videos; ids are <class>_<number>."""
    names = tuple(sorted(sizes))
    rows = sorted((f"{name}_{k:03d}", i) for i, name in enumerate(names) for k in range(sizes[name]))
    ids = tuple(video for video, _ in rows)
    return Videos(names, ids, np.array([i for _, i in rows]), tuple(group(video) for video in ids))


OFF = SplitSettings(overlap="off")
S1 = ("sports1m",)


def built(tmp_path, sizes, settings=OFF, published=frozenset(), dataset="folder", groups=None, name="s"):
    rows = [(f"{cls}_{k:03d}", cls) for cls, size in sizes.items() for k in range(size)]
    manifest = write_manifest(tmp_path / f"{name}m.h5", rows, groups)
    output = h5.Output(tmp_path / f"{name}.h5", schemas.SPLIT)
    splits.build(manifest, dataset, S1, settings, published, output)
    with h5.read(output.path, schemas.SPLIT) as file:
        return {column.name: file[column.name] for column in schemas.SPLIT.columns}, file.attributes


TEN = {f"class {k}": 20 + k for k in range(10)}


def test_a_curated_split(tmp_path):
    columns, facts = built(tmp_path, TEN, published=PUBLISHED)
    assert Counter(columns["role"]) == {"train": 6, "val_unseen": 2, "test_unseen": 2}
    role = dict(zip(columns["class_name"], columns["role"], strict=True))
    per_class: dict[str, Counter] = defaultdict(Counter)
    for video, subset in zip(columns["id"], columns["subset"], strict=True):
        per_class[video.rpartition("_")[0]][subset] += 1
    for name, counts in per_class.items():
        size = TEN[name]
        if role[name] == "test_unseen":
            assert counts == {"test_unseen": size}
            continue
        assert counts["test_seen"] in (size // 10, size // 10 + 1)
        assert set(counts) == {"test_seen", role[name]} | ({"val_seen"} if role[name] == "train" else set())
    total = sum(TEN[name] for name in TEN if role[name] != "test_unseen")
    assert facts["table"]["videos"]["test_seen"] == round(total * 0.1)
    assert facts["table"]["classes"] == {"train": 6, "val_unseen": 2, "test_unseen": 2, "unused": 0}
    assert facts["kind"] == "curated" and facts["groups_together"] is False


def test_equal_seeds_give_equal_splits_and_others_do_not(tmp_path):
    ids = [
        built(tmp_path, TEN, SplitSettings(seed=seed, overlap="off"), name=f"{k}")[1]["content_sha256"]
        for k, seed in enumerate((0, 0, 1))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_shares_are_settings(tmp_path):
    settings = SplitSettings(val_unseen_share=0.1, test_unseen_share=0.4, held_out_share=0.3, overlap="off")
    columns, facts = built(tmp_path, TEN, settings)
    assert Counter(columns["role"]) == {"train": 5, "val_unseen": 1, "test_unseen": 4}
    counts = facts["table"]["videos"]
    assert counts["test_seen"] / (sum(counts.values()) - counts["test_unseen"]) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("size", [3, 4, 9])
def test_small_classes_are_on_both_sides_of_every_cut(tmp_path, size):
    columns, _ = built(tmp_path, {f"c{k}": size for k in range(8)}, published=PUBLISHED)
    found = defaultdict(set)
    for video, subset in zip(columns["id"], columns["subset"], strict=True):
        found[video.partition("_")[0]].add(str(subset))
    for name, role in zip(columns["class_name"], columns["role"], strict=True):
        expected = {"train": {"train", "val_seen", "test_seen"}, "val_unseen": {"val_unseen", "test_seen"}}
        assert found[str(name)] == expected.get(str(role), {"test_unseen"})


def test_recordings_stay_on_one_side(tmp_path):
    """25 recordings of 4 clips a class, as in UCF101."""
    sizes = {f"c{k}": 100 for k in range(8)}
    groups = {f"c{k}_{i:03d}": f"c{k} g{i // 4}" for k in range(8) for i in range(100)}
    together, facts = built(tmp_path, sizes, groups=groups)
    subsets = defaultdict(set)
    for video, subset in zip(together["id"], together["subset"], strict=True):
        subsets[groups[str(video)]].add(str(subset))
    assert all(len(found) == 1 for found in subsets.values())
    counts = facts["table"]["videos"]
    assert counts["test_seen"] / (sum(counts.values()) - counts["test_unseen"]) == pytest.approx(0.1, abs=0.025)
    apart, _ = built(tmp_path, sizes, published=PUBLISHED, groups=groups, name="apart")
    subsets = defaultdict(set)
    for video, subset in zip(apart["id"], apart["subset"], strict=True):
        subsets[groups[str(video)]].add(str(subset))
    assert any(len(found) > 1 for found in subsets.values())


def test_a_recording_of_seen_and_unseen_classes_leaves_the_seen_side():
    videos = videos_of(
        {"a": 10, "b": 10, "c": 10, "d": 10}, lambda video: "shared" if video.endswith("_000") else video
    )
    roles = ["train", "train", "val_unseen", "test_unseen"]
    subsets = cuts.cut_videos(videos, roles, [""] * 40, 0.1, 0)
    row = videos.ids.index
    assert subsets.subset[row("d_000")] == "test_unseen"
    for video in ("a_000", "b_000", "c_000"):
        assert subsets.subset[row(video)] == ""
        assert subsets.excluded[row(video)] == "same recording as a test_unseen video: shared"


def test_recordings_across_seen_classes_stay_together():
    videos = videos_of(
        {"a": 30, "b": 30, "c": 20, "d": 20}, lambda video: ("ab" if video[0] in "ab" else video[0]) + video[-2:]
    )
    subsets = cuts.cut_videos(videos, ["train", "train", "val_unseen", "test_unseen"], [""] * 100, 0.1, 3)
    found = defaultdict(set)
    for group, subset in zip(videos.groups, subsets.subset, strict=True):
        found[group].add(subset)
    assert all(len(names - {""}) == 1 for names in found.values())


def test_declared_roles_are_taken(tmp_path):
    from pipeline.demo import CLASS_ROLES

    columns, _ = built(tmp_path, dict.fromkeys(CLASS_ROLES, 6), SplitSettings(), dataset="demo")
    assert dict(zip(columns["class_name"], columns["role"], strict=True)) == CLASS_ROLES
    assert set(columns["decision/overlap"]) == {""}
    with pytest.raises(
        PipelineError, match="found role None declared for class 'c', expected one of train, val_unseen"
    ):
        cuts.declared_roles(["c"], {})


def test_samples_are_left_out_first(tmp_path):
    (tmp_path / "ids.txt").write_text("class 1_003\n\nclass 2_001\nelsewhere\n")
    (tmp_path / "categories.csv").write_text("class_name,category\nclass 3,others\nclass 4,animals\n")
    settings = SplitSettings(
        overlap="off",
        exclude_ids=str(tmp_path / "ids.txt"),
        exclude_classes=("Class 5",),
        categories=str(tmp_path / "categories.csv"),
        exclude_categories=("others",),
    )
    columns, facts = built(tmp_path, TEN, settings)
    excluded = dict(zip(columns["id"], columns["excluded"], strict=True))
    subset = dict(zip(columns["id"], columns["subset"], strict=True))
    assert excluded["class 1_003"] == "on the list of excluded ids" and subset["class 1_003"] == ""
    assert excluded["class 3_000"] == "excluded category others"
    assert excluded["class 5_000"] == "excluded class"
    assert excluded["class 4_000"] == "" and subset["class 4_000"]
    role = dict(zip(columns["class_name"], columns["role"], strict=True))
    assert (role["class 3"], role["class 5"]) == ("unused", "unused")
    assert facts["table"]["excluded"] == 2 + TEN["class 3"] + TEN["class 5"]


def test_clips_without_sound_are_left_out_before_anything_is_drawn(tmp_path):
    ids = [f"{cls}_{k:03d}" for cls, size in TEN.items() for k in range(size)]
    silent = {video for video in ids if video.startswith("class 7") or video.endswith("_004")}
    status = {video: "no_audio" if video in silent else "unavailable" if "_005" in video else "" for video in ids}
    acquired = write_acquired(tmp_path / "acquired.h5", status, {})
    manifest = write_manifest(tmp_path / "m.h5", [(video, video.partition("_")[0]) for video in ids])
    output = h5.Output(tmp_path / "s.h5", schemas.SPLIT)
    splits.build(manifest, "folder", S1, OFF, frozenset(), output, acquired)
    with h5.read(output.path, schemas.SPLIT) as file:
        left_out = {str(video) for video, why in zip(file["id"], file["excluded"], strict=True) if why == "no audio"}
        assert left_out == silent
        assert (file["subset"][file["excluded"] != ""] == "").all()
        assert file["role"][file["class_name"] == "class 7"] == "unused"
        assert Counter(file["role"]) == {"train": 5, "val_unseen": 2, "test_unseen": 2, "unused": 1}


def test_what_cannot_be_left_out(tmp_path):
    (tmp_path / "categories.csv").write_text("class_name,category\nclass 3,others\n")
    with pytest.raises(
        SettingsError, match=r"\[split\] exclude_classes: found 'nine', expected classes of this dataset"
    ):
        built(tmp_path, TEN, SplitSettings(overlap="off", exclude_classes=("nine",)))
    with pytest.raises(SettingsError, match=r"exclude_categories: found 'other', expected one of \['others'\]"):
        settings = replace(OFF, categories=str(tmp_path / "categories.csv"), exclude_categories=("other",))
        built(tmp_path, TEN, settings)
    with pytest.raises(SettingsError, match=r"exclude_ids: nowhere.txt: .*No such file.*one video id a line"):
        built(tmp_path, TEN, SplitSettings(overlap="off", exclude_ids="nowhere.txt"))


def test_too_few_classes_and_videos(tmp_path):
    with pytest.raises(PipelineError, match="found 3 classes of which 3 may be unseen, expected at least 4 of which 2"):
        built(tmp_path, {"a": 9, "b": 9, "c": 9})
    columns, _ = built(tmp_path, {"a": 9, "b": 9, "c": 9, "d": 9})
    assert Counter(columns["role"]) == {"train": 2, "val_unseen": 1, "test_unseen": 1}
    with pytest.raises(PipelineError, match=r"class 'c0' \(train\) has 2 videos, expected at least 3: add videos, or"):
        built(tmp_path, {f"c{k}": 2 for k in range(8)} | {"c0": 2})
    groups = {f"c{k}_{i:03d}": f"c{k}" for k in range(8) for i in range(9)}
    with pytest.raises(PipelineError, match="has 1 separate recordings, expected at least"):
        built(tmp_path, {f"c{k}": 9 for k in range(8)}, groups=groups)


def test_overlapping_classes_are_never_unseen():
    names = [f"c{k:02d}" for k in range(51)]
    overlapping = [k < 30 for k in range(51)]
    for seed in range(5):
        roles = cuts.assign_roles(names, [True] * 51, overlapping, (0.25, 0.25), seed)
        assert roles[:30] == ["train"] * 30
        assert Counter(roles[30:]) == {"val_unseen": 11, "test_unseen": 10}
    with pytest.raises(
        PipelineError, match="found 51 classes of which 1 may be unseen, expected at least 4 of which 2"
    ):
        cuts.assign_roles(names, [True] * 51, [k < 50 for k in range(51)], (0.25, 0.25), 0)


def test_settings_are_checked():
    with pytest.raises(SettingsError, match=r"\[split\] kind: found 'random', expected one of auto, published"):
        SplitSettings(kind="random")
    with pytest.raises(SettingsError, match=r"\[split\] held_out_share: found 0.5, expected a share between 0 and 0.5"):
        SplitSettings(held_out_share=0.5)
    with pytest.raises(SettingsError, match=r"\[split\] seed: found -1, expected 0 or more"):
        SplitSettings(seed=-1)
    with pytest.raises(SettingsError, match=r"\[split\] overlap: found 'rules', expected one of auto, on, off"):
        SplitSettings(overlap="rules")
    with pytest.raises(SettingsError, match=r"\[split\] table: found '', expected a file with kind = table only"):
        SplitSettings(kind="table")


def test_settings_are_told_by_the_content_of_files(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("a\n")
    settings = SplitSettings(exclude_ids=str(path), lists=(f"kinetics={path}",))
    before = settings.content()
    assert replace(settings, upstream="elsewhere").content() == before
    path.write_text("b\n")
    assert settings.content() != before
