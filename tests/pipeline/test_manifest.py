"""The manifest: content, shards, stability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline import h5, manifest, schemas
from pipeline.datasets import DATASETS
from pipeline.datasets.folder import FolderSettings
from pipeline.demo import DemoSettings
from pipeline.errors import PipelineError


def built(path, dataset, settings):
    manifest.build(dataset, settings, h5.Output(path, schemas.MANIFEST))
    with h5.read(path, schemas.MANIFEST) as file:
        return {column.name: file[column.name] for column in schemas.MANIFEST.columns}, file.attributes


def test_the_demo_manifest(tmp_path):
    columns, facts = built(tmp_path / "manifest.h5", "demo", DemoSettings(videos_per_class=12))
    assert len(columns["class_name"]) == 16 and len(columns["id"]) == 192
    assert columns["class_name"].tolist() == sorted(columns["class_name"])
    assert columns["id"].tolist() == sorted(set(columns["id"]))
    names = columns["class_name"][columns["class_index"]]
    assert all(key.startswith(name.replace(" ", "_") + "/") for key, name in zip(columns["id"], names, strict=True))
    assert (tmp_path / "manifest.csv").read_text().count("\n") == 193
    assert facts["shards"] == 8 and set(columns["shard"]) == set(range(8))


def test_the_same_content_every_time_and_another_for_another_seed(tmp_path):
    facts = [built(tmp_path / f"{n}.h5", "demo", DemoSettings(seed=seed))[1] for n, seed in enumerate((0, 0, 1))]
    ids = [entry["content_sha256"] for entry in facts]
    assert ids[0] == ids[1] != ids[2]
    assert built(tmp_path / "defaults.h5", "demo", None)[1]["content_sha256"] == ids[0]
    assert DATASETS["demo"].shards(None) == 8 and manifest.fingerprint("demo", None).startswith("generator")


def test_shards_are_a_stable_function_of_the_id():
    assert [manifest.shard_of(name, 8) for name in ("a", "b", "rain/1", "Zoë")] == [2, 2, 2, 0]
    counts = np.bincount([manifest.shard_of(f"video {n}", 384) for n in range(93752)], minlength=384)
    assert counts.min() > 180
    assert counts.max() < 310


def test_one_video_more_changes_one_shard_only(tmp_path):
    for name in ("a", "b", "c", "d"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(30):
            (tmp_path / "videos" / name / f"{number}.mp4").touch()
    settings = FolderSettings(videos=str(tmp_path / "videos"))
    before, _ = built(tmp_path / "1.h5", "folder", settings)
    mark = manifest.fingerprint("folder", settings)
    (tmp_path / "videos" / "c" / "new.mp4").touch()
    after, _ = built(tmp_path / "2.h5", "folder", settings)
    assert manifest.fingerprint("folder", settings) != mark
    shards = [
        {k: set(c["id"][c["shard"] == k]) for k in range(8)} for c in (before, after)
    ]
    assert [k for k in range(8) if shards[0][k] != shards[1][k]] == [manifest.shard_of("c/new", 8)]


def test_classes_that_differ_in_case_alone_are_an_error():
    with pytest.raises(PipelineError, match="'folder': found the classes 'TV' and 'tv', expected names that differ in"):
        manifest.check_case("folder", ["TV", "radio", "tv"])


def test_an_id_that_occurs_twice_is_an_error():
    videos = DATASETS["demo"].list_videos(DemoSettings())[:2]
    with pytest.raises(PipelineError, match="the video id .*000.mp4' occurs twice .*expected unique ids"):
        manifest.check_unique("demo", [videos[0], replace(videos[1], id=videos[0].id)])
