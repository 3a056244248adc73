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


def test_lists_of_what_is_left_out(tmp_path):
    """Ids of videos or of recordings, with a byte order mark; class names with commas from a file."""
    sizes = {"a": 9, "b": 9, "c": 9, "d": 9, "bee, wasp, etc. buzzing": 9}
    groups = {f"a_{k:03d}": f"tube{k // 2}" for k in range(9)}
    (tmp_path / "ids.txt").write_text("\ufeffb_003\r\ntube2\r\nelsewhere\r\n", encoding="utf-8")
    (tmp_path / "classes.txt").write_text("Bee, wasp, etc. buzzing\n")
    settings = replace(OFF, exclude_ids=str(tmp_path / "ids.txt"), exclude_classes=(str(tmp_path / "classes.txt"),))
    columns, facts = built(tmp_path, sizes, settings, groups=groups)
    reasons = dict(zip(columns["id"], columns["excluded"], strict=True))
    listed = {video for video, why in reasons.items() if why == "on the list of excluded ids"}
    assert listed == {"b_003", "a_004", "a_005"}
    assert Counter(reasons.values())["excluded class"] == 9
    before = settings.content()
    (tmp_path / "classes.txt").write_text("a\n")
    assert settings.content() != before


@pytest.mark.parametrize(("options", "match"), [
    ({"exclude_classes": ("class 11",)}, "exclude_classes: found 'class 11', expected classes .*mean 'class 1'"),
    ({"categories": "categories.csv", "exclude_categories": ("other",)}, r"found 'other', expected one of \['others"),
    ({"exclude_ids": "nowhere.txt"}, "exclude_ids: nowhere.txt: .*No such file.* in UTF-8 with one video id a line"),
    ({"exclude_ids": "none.txt"}, r"none.txt: found none of its 2 ids \(first: 'x,y'\) in this dataset, expected ids"),
    ({"exclude_ids": "empty.txt"}, "empty.txt: found no line, expected one video id a line"),
    ({"exclude_ids": "latin.txt"}, "latin.txt: .*decode byte.*expected a file in UTF-8 with one video id a line"),
])  # fmt: skip
def test_what_cannot_be_left_out(options, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "categories.csv").write_text("class_name,category\nclass 3,others\n")
    (tmp_path / "none.txt").write_text("x,y\nz\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes("café\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=match):
        built(tmp_path, TEN, replace(OFF, **options))


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


def test_a_class_whose_recordings_all_belong_to_others_is_named():
    """Four classes whose recordings hang together can't all be on every side of both cuts."""
    recordings = {"a": "g1 g2 g3", "b": "g1 g4 g5", "c": "g2 g6 g7", "d": "g3 g8 g9", "e": "h1 h2 h3", "f": "k1 k2 k3"}
    rows = [(f"{name} {group}", index, group) for index, name in enumerate(recordings)
            for group in recordings[name].split()]
    ids, index, groups = zip(*rows, strict=True)
    videos = Videos(tuple(recordings), ids, np.array(index), groups)
    roles = ["train"] * 4 + ["val_unseen", "test_unseen"]
    whole = named = 0
    for seed in range(40):
        try:
            subsets = cuts.cut_videos(videos, roles, [""] * len(ids), 0.1, seed)
            for k in range(4):
                found = {subset for subset, of in zip(subsets.subset, index, strict=True) if of == k}
                assert found == {"train", "val_seen", "test_seen"}
            whole += 1
        except PipelineError as error:
            assert "has no recording left for" in str(error) and "[split] exclude_classes" in str(error)
            named += 1
    assert whole and named


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


def test_shares_that_leave_nothing_to_train_on():
    with pytest.raises(PipelineError, match=r"test_unseen_share leave 1 of 51 classes to train on, expected at"):
        cuts.assign_roles([f"c{k}" for k in range(51)], [True] * 51, [False] * 51, (0.49, 0.49), 0)


def test_settings_that_change_nothing_are_refused():
    assert splits.kind_of("ucf", SplitSettings(kind="curated", seed=1)) == "curated"
    assert splits.kind_of("demo", SplitSettings(seed=1)) == "curated"
    with pytest.raises(SettingsError, match=r"\[split\] seed, overlap: found values that change nothing, since "
                                            r"'ucf' has a published split; .*or set \[split\] kind = curated"):
        splits.kind_of("ucf", SplitSettings(seed=1, overlap="off"))
    with pytest.raises(SettingsError, match=r"\[split\] test_unseen_share: .*since 'demo' declares its classes' roles"):
        splits.kind_of("demo", SplitSettings(test_unseen_share=0.3))


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
