"""Means over clips: to the bit the published averages, in the order of the ids, failures carried along."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline import h5, pooling, schemas
from pipeline.errors import ArtefactError
from tests.pipeline.artefacts import write_clip_features


def ragged(counts, width, dtype=np.float32):
    generator = np.random.default_rng(3)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return (generator.normal(size=(offsets[-1], width)) * 30).astype(dtype), offsets


def test_equals_the_published_average_to_the_bit():
    counts = np.random.default_rng(0).integers(0, 60, 80)
    features, offsets = ragged(counts, 33)
    means = pooling.mean_over_clips(features, offsets)
    assert means.dtype == np.float32
    for row, mean in enumerate(means):
        clips = features[offsets[row] : offsets[row + 1]]
        expected = np.average(clips, axis=0) if len(clips) else np.full(33, np.nan, np.float32)
        np.testing.assert_array_equal(mean, expected)


def test_8_bit_codes_equal_the_published_average_in_float64():
    generator = np.random.default_rng(1)
    codes = generator.integers(0, 256, (997, 128)).astype(np.uint8)
    means = pooling.mean_over_clips(codes.astype(np.float32), np.array([0, 1, 330, 997]))
    for row, (start, stop) in enumerate([(0, 1), (1, 330), (330, 997)]):
        published = np.average(codes[start:stop], axis=0)
        assert published.dtype == np.float64
        np.testing.assert_array_equal(means[row], published.astype(np.float32))


def clip(value, clips=2, video_width=4, audio_width=3):
    return np.full((clips, video_width), value, np.float32), np.full((clips + 1, audio_width), -value, np.float32)


def test_shards_become_one_table_sorted_by_id(tmp_path):
    facts: dict[str, Any] = {"feature_set": "selavi", "weights": {"video": "generated"}, "digest": "differs"}
    first = write_clip_features(tmp_path / "0.h5", {"d": clip(4), "a": clip(1)}, {"c": "no_audio"}, **facts)
    second = write_clip_features(tmp_path / "1.h5", {"b": clip(2, 5)}, {"0": "empty"}, **{**facts, "digest": "other"})
    empty = write_clip_features(tmp_path / "2.h5", {}, **facts)
    with h5.read(empty, schemas.CLIP_FEATURES) as file:
        assert file["video/features"].shape == (0, 3)
    pooling.pool([first, second], h5.Output(tmp_path / "out.h5", schemas.VIDEO_FEATURES))
    with h5.read(tmp_path / "out.h5", schemas.VIDEO_FEATURES) as file:
        assert file["id"].tolist() == ["a", "b", "d"]
        assert file["video"][:, 0].tolist() == [1, 2, 4]
        assert file["audio"][:, 2].tolist() == [-1, -2, -4]
        assert file["video_clips"].tolist() == [2, 5, 2]
        assert file["audio_clips"].tolist() == [3, 6, 3]
        assert file["failed_id"].tolist() == ["0", "c"]
        assert file["failed_reason"].tolist() == ["empty", "no_audio"]
        assert file.attributes["weights"] == {"video": "generated"}
        assert file.attributes["feature_set"] == "selavi"
        assert "digest" not in file.attributes


def test_the_order_of_the_shards_does_not_matter(tmp_path):
    paths = [write_clip_features(tmp_path / f"{k}.h5", {f"v{k}": clip(k), f"w{k}": clip(k + 9)}) for k in range(3)]
    ids = []
    for name, order in (("x", paths), ("y", paths[::-1])):
        pooling.pool(order, h5.Output(tmp_path / f"{name}.h5", schemas.VIDEO_FEATURES))
        ids.append(h5.facts(tmp_path / f"{name}.h5")["content_sha256"])
    assert ids[0] == ids[1]


def test_a_video_without_a_clip_of_one_kind_has_failed(tmp_path):
    pair = (np.ones((1, 4), np.float32), np.ones((0, 3), np.float32))
    path = write_clip_features(tmp_path / "0.h5", {"a": clip(1), "b": pair})
    pooling.pool([path], h5.Output(tmp_path / "out.h5", schemas.VIDEO_FEATURES))
    with h5.read(tmp_path / "out.h5", schemas.VIDEO_FEATURES) as file:
        assert file["failed_id"].tolist() == ["b"]
        assert file["failed_reason"].tolist() == ["too_short"]


def test_all_failed_is_an_empty_table(tmp_path):
    path = write_clip_features(tmp_path / "0.h5", {}, {"a": "empty"})
    pooling.pool([path], h5.Output(tmp_path / "out.h5", schemas.VIDEO_FEATURES))
    with h5.read(tmp_path / "out.h5", schemas.VIDEO_FEATURES) as file:
        assert file["video"].shape == (0, 3)


def test_shards_that_do_not_fit_together(tmp_path):
    output = h5.Output(tmp_path / "out.h5", schemas.VIDEO_FEATURES)
    with pytest.raises(ArtefactError, match="found no shard of clip features, expected at least one; run ExtractF"):
        pooling.pool([], output)
    one = write_clip_features(tmp_path / "1.h5", {"a": clip(1)}, weights="released")
    two = write_clip_features(tmp_path / "2.h5", {"b": clip(1)}, weights="generated")
    with pytest.raises(
        ArtefactError, match=r"2.h5: found weights = 'generated', expected 'released' as in the shards before"
    ):
        pooling.pool([one, two], output)
    again = write_clip_features(tmp_path / "3.h5", {"a": clip(1)}, weights="released")
    with pytest.raises(ArtefactError, match="video 'a' is in two shards, expected one"):
        pooling.pool([one, again], output)
    wide = write_clip_features(tmp_path / "4.h5", {"w": clip(1, video_width=7)}, weights="released")
    with pytest.raises(ArtefactError, match=r"4.h5: found video features of width 7, expected 4"):
        pooling.pool([one, wide], output)
    assert not (tmp_path / "out.h5").exists()
