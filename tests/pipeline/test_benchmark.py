"""The benchmark file: rows, label order, coverage, the hash of its videos, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import benchmark, h5, labels, pooling, schemas, splits
from pipeline.errors import ArtefactError, PipelineError
from tests.pipeline.artefacts import write_clip_features, write_manifest, write_word2vec

CLASSES = ("a", "b", "c", "d")
WORDS = {"rock": 1, "red": 2, "ball": 3, "tree": 4}


@pytest.fixture
def line(tmp_path):
    """-> function (failed ids or predicate, published) -> open benchmark's columns and attributes."""
    rows = [(f"{name}_{k:02d}", name) for name in CLASSES for k in range(10)]
    manifest = write_manifest(tmp_path / "m.h5", rows)
    vectors = {w: np.random.default_rng(s).normal(size=300).astype(np.float32) for w, s in WORDS.items()}
    write_word2vec(tmp_path / "w.bin", vectors)
    (tmp_path / "aliases.csv").write_text("class_name,text_label\na,rock\nb,red\nc,ball\nd,tree\n")
    settings = labels.LabelSettings(path=str(tmp_path / "w.bin"), aliases=str(tmp_path / "aliases.csv"))
    labels.embed(manifest, "folder", settings, h5.Output(tmp_path / "l.h5", schemas.LABELS))
    splits.build(
        manifest, "folder", (), splits.SplitSettings(overlap="off"), frozenset(),
        h5.Output(tmp_path / "s.h5", schemas.SPLIT),
    )

    def make(fails=lambda video: False, published=frozenset(), order=1):
        clips = {
            v: (np.full((2, 4), i, np.float32), np.full((1, 3), -i, np.float32))
            for i, (v, _) in enumerate(rows)
            if not fails(v)
        }
        failed = {v: "no_audio" for v, _ in rows if fails(v)}
        halves = [{v: pair for v, pair in clips.items() if int(v[-1]) % 2 == k} for k in (0, 1)][::order]
        paths = [
            write_clip_features(tmp_path / "c0.h5", halves[0], failed, weights="released", feature_set="selavi"),
            write_clip_features(tmp_path / "c1.h5", halves[1], weights="released", feature_set="selavi"),
        ]
        pooling.pool(paths, h5.Output(tmp_path / "f.h5", schemas.VIDEO_FEATURES))
        features, vectors, split, manifest = (tmp_path / f"{name}.h5" for name in "flsm")
        output = h5.Output(tmp_path / "b.h5", schemas.BENCHMARK)
        benchmark.build(features, vectors, split, manifest, published, output)
        with h5.read(tmp_path / "b.h5", schemas.BENCHMARK) as file:
            return {c.name: file[c.name] for c in schemas.BENCHMARK.columns}, file.attributes

    return make


def test_every_video_has_its_own_row(line, tmp_path):
    columns, facts = line()
    assert columns["id"].tolist() == sorted(columns["id"]) and len(columns["id"]) == 40
    np.testing.assert_array_equal(columns["video"][:, 0], np.arange(40))
    np.testing.assert_array_equal(columns["audio"][:, 0], -np.arange(40))
    assert [str(v)[0] for v in columns["id"]] == [str(columns["class_name"][i]) for i in columns["class_index"]]
    with h5.read(tmp_path / "s.h5", schemas.SPLIT) as file:
        assert columns["subset"].tolist() == file["subset"].tolist()
        assert columns["class_role"].tolist() == file["role"].tolist()
    assert facts["weights"] == "released" and facts["feature_set"] == "selavi"
    assert facts["coverage"]["test_unseen"] == {"videos": 10, "with_features": 10}
    assert columns["failed_id"].size == 0


def test_label_order_decides_which_vector_a_class_gets(line, tmp_path):
    right, facts = line()
    assert (facts["label_order"], facts["shifted_classes"]) == ("corrected", [])
    wrong, facts = line(published=frozenset({"label_order"}))
    assert facts["label_order"] == "published" and facts["shifted_classes"] == ["a", "c"]
    same = [np.array_equal(x, y) for x, y in zip(right["class_vector"], wrong["class_vector"], strict=True)]
    assert same == [False, True, False, True]
    np.testing.assert_array_equal(wrong["class_vector"][0], right["class_vector"][2])


def test_failed_videos_are_counted_and_named(line, tmp_path):
    _, whole = line()
    columns, facts = line(lambda video: video in ("a_03", "c_05"))
    assert columns["failed_id"].tolist() == ["a_03", "c_05"]
    assert columns["failed_reason"].tolist() == ["no_audio", "no_audio"]
    assert [str(columns["class_name"][i]) for i in columns["failed_class_index"]] == ["a", "c"]
    subsets = columns["failed_subset"].tolist()
    for name, count in facts["coverage"].items():
        assert count["videos"] - count["with_features"] == subsets.count(name)
        assert count["videos"] == whole["coverage"][name]["videos"]
    assert facts["video_list_sha256"] != whole["video_list_sha256"]


def test_the_hash_of_the_videos_knows_no_order(line, tmp_path):
    assert line()[1]["video_list_sha256"] == line(order=-1)[1]["video_list_sha256"]
    columns = (["a", "b"], ["train", "test_seen"], ["x", "y"])
    assert benchmark.video_list_hash(*columns) == benchmark.video_list_hash(*(c[::-1] for c in columns))
    assert benchmark.video_list_hash(*columns) != benchmark.video_list_hash(["a", "b"], columns[1], ["y", "x"])
    assert benchmark.video_list_hash(*columns) != benchmark.video_list_hash(["b", "a"], columns[1], columns[2])


def test_a_class_without_videos_is_unused(tmp_path):
    names = np.array([f"c{k}" for k in range(3)])
    assert benchmark.coverage(["train", "train"], ["train", "test_seen"])["train"] == {"videos": 3, "with_features": 2}
    counts = {"train": {"videos": 4, "with_features": 0}}
    with pytest.raises(
        PipelineError, match="no class of role val_unseen has a video with features .*expected at least"
    ):
        benchmark.check_complete(counts, ["train", "test_unseen"], "f.h5")
    with pytest.raises(
        PipelineError, match=r"found no features for any of the 4 videos of train \(f.h5\), expected some"
    ):
        benchmark.check_complete(counts, ["train", "val_unseen", "test_unseen"], "f.h5")
    assert names.size == 3


def test_a_role_without_a_class_is_refused(line, tmp_path):
    with h5.read(tmp_path / "s.h5", schemas.SPLIT) as file:
        unseen = str(file["class_name"][file["role"] == "test_unseen"][0])
    with pytest.raises(PipelineError, match="no class of role test_unseen has a video with features"):
        line(lambda video: video.startswith(unseen))
    with h5.read(tmp_path / "s.h5", schemas.SPLIT) as file:
        trained = str(file["class_name"][file["role"] == "train"][0])
    columns, facts = line(lambda video: video.startswith(trained))
    assert facts["classes_without_videos"] == [trained]
    assert columns["class_role"][columns["class_name"] == trained] == "unused"


def test_inputs_of_different_manifests_are_refused(line, tmp_path):
    line()
    write_manifest(tmp_path / "m.h5", [(f"{name}_{k:02d}", name) for name in CLASSES for k in range(9)])
    with pytest.raises(ArtefactError, match="s.h5: its column id differs from the manifest's, expected the same 36"):
        line()
    with pytest.raises(ArtefactError, match="video 'x' has features but is not in the manifest"):
        benchmark.join(np.array(["x"]), np.array(["a"]), np.array(["train"]), np.array([0]))
