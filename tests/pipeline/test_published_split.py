"""The released splits: fetched from a server, verified, filtered by the class lists; table 1 to the video."""

from __future__ import annotations

import csv
import http.server
import threading
from collections import Counter
from functools import partial

import numpy as np
import pytest

from pipeline import (
    benchmark,
    cuts,
    h5,
    label_texts,
    published_files,
    published_results,
    published_split,
    schemas,
    splits,
)
from pipeline.errors import PipelineError, SettingsError
from pipeline.published_split import TABLE_1
from pipeline.split_settings import SplitSettings
from tests.pipeline.artefacts import write_manifest

CLASSES = {"ucf": (30, 12, 9), "activitynet": (99, 51, 50), "vggsound": (138, 69, 69)}
S1, BOTH = ("sports1m",), ("sports1m", "youtube8m")
PRETRAINING = {"selavi": S1, "c3d_vggish": BOTH}
AFTER_THE_FILTER = {"ucf": (6, 845), "activitynet": (48, 4052), "vggsound": (64, 3200)}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, except the first request for a path ending in 'flaky', which fails."""

    requests: list[str] = []

    def do_GET(self):
        self.requests.append(self.path)
        if "/busy/" in self.path:
            if self.requests.count(self.path) < 2:
                return self.send_error(503)
            self.path = self.path.replace("/busy/", "/")
        return super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """-> function folder -> URL of a local server of its files."""
    servers = []

    def serve(folder):
        Handler.requests = []
        made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        threading.Thread(target=made.serve_forever, daemon=True).start()
        servers.append(made)
        return f"http://127.0.0.1:{made.server_address[1]}"

    yield serve
    for made in servers:
        made.shutdown()
        made.server_close()


def table_of(reference_data, dataset):
    with (reference_data / "data" / "splits" / f"{dataset}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("dataset", ["ucf", "activitynet"])
@pytest.mark.parametrize("feature_set", ["selavi", "c3d_vggish"])
def test_fetched_from_a_server(dataset, feature_set, server, reference_data, tmp_path):
    url = server(reference_data / "data" / "upstream")
    split = published_split.load(dataset, PRETRAINING[feature_set], url, tmp_path)
    expected = {row["video_id"]: row["subset"] for row in table_of(reference_data, dataset)}
    if feature_set == "selavi":
        assert split.subsets == expected
        assert tuple(split.counts().values()) == TABLE_1[dataset]
        assert not split.dropped
    roles = Counter(split.roles.values())
    left, videos = AFTER_THE_FILTER[dataset]
    unseen = left if feature_set == "c3d_vggish" else CLASSES[dataset][2]
    assert (roles["train"], roles["val_unseen"], roles["test_unseen"]) == (*CLASSES[dataset][:2], unseen)
    if feature_set == "c3d_vggish":
        assert split.counts()["test_unseen"] == videos
        assert len(split.dropped) == TABLE_1[dataset][4] - videos
        assert {v: s for v, s in expected.items() if v not in split.dropped} == split.subsets
    count = len(Handler.requests)
    assert published_split.load(dataset, PRETRAINING[feature_set], url, tmp_path) == split
    assert len(Handler.requests) == count == 10, "the second time nothing is fetched"


@pytest.mark.parametrize("dataset", CLASSES)
def test_table_1_to_the_video(dataset, reference_data, tmp_path):
    """From one table per dataset, through the stage: classes and videos of the paper's table 1."""
    rows = table_of(reference_data, dataset)
    names = {row["class_name"].casefold(): row["class_name"] for row in rows}
    manifest = write_manifest(tmp_path / "m.h5", [(r["video_id"], names[r["class_name"].casefold()]) for r in rows])
    settings = SplitSettings(kind="table", table=str(reference_data / "data" / "splits" / f"{dataset}.csv"))
    output = h5.Output(tmp_path / "split.h5", schemas.SPLIT)
    splits.build(manifest, dataset, S1, settings, frozenset(), output)
    with h5.read(output.path, schemas.SPLIT) as file:
        role, table = Counter(file["role"]), file.attributes["table"]
        assert dict(zip(file["id"], file["subset"], strict=True)) == {r["video_id"]: r["subset"] for r in rows}
    assert tuple(table["videos"][name] for name in schemas.SUBSETS) == TABLE_1[dataset]
    assert (role["train"], role["val_unseen"], role["test_unseen"]) == CLASSES[dataset]
    assert table["excluded"] == 0


@pytest.mark.parametrize("dataset", CLASSES)
def test_the_lists_are_those_that_published_numbers_are_for(dataset, reference_data):
    """Without the classes known from YouTube-8M for C3D/VGGish; names as in the manifest, that is the label table."""
    names = {name.casefold(): name for name in label_texts.published_texts(dataset)}
    path = reference_data / "data" / "splits" / f"{dataset}.csv"
    for feature_set, pretraining in PRETRAINING.items():
        split = published_split.read_split_table(path, dataset, pretraining)
        classes = [names[split.classes[video].casefold()] for video in split.subsets]
        found = benchmark.video_list_hash(list(split.subsets), list(split.subsets.values()), classes)
        assert found == published_results.VIDEO_LISTS[dataset, feature_set]
    left, videos = AFTER_THE_FILTER[dataset]
    assert tuple(split.counts().values()) == (*TABLE_1[dataset][:4], videos)
    assert Counter(split.roles.values())["test_unseen"] == left
    assert len(split.dropped) == TABLE_1[dataset][4] - videos


def test_classes_left_out_are_unused(reference_data, tmp_path):
    path = reference_data / "data" / "splits" / "ucf.csv"
    split = published_split.read_split_table(path, "ucf", BOTH)
    ids = tuple(video for video, name in split.classes.items() if name in ("BandMarching", "Archery"))
    index = np.array([int(split.classes[video] == "BandMarching") for video in ids])
    roles, subsets = splits.apply_lists(cuts.Videos(("Archery", "BandMarching"), ids, index, ids), split, "the lists")
    assert roles == ["train", "unused"]
    for row, band in enumerate(index):
        assert (subsets.subset[row] == "") == bool(band)
        assert subsets.excluded[row] == ("its class is not used with these features" if band else "")


def test_the_stage_takes_the_released_lists(server, reference_data, tmp_path):
    rows = table_of(reference_data, "ucf")
    videos = [(r["video_id"], r["class_name"].replace("HandStand", "Handstand")) for r in rows]
    videos.append(("v_Archery_g99_c01", "Archery"))
    manifest = write_manifest(tmp_path / "m.h5", videos)
    output = h5.Output(tmp_path / "split.h5", schemas.SPLIT)
    url = server(reference_data / "data" / "upstream")
    splits.build(manifest, "ucf", S1, SplitSettings(upstream=url), frozenset(), output)
    with h5.read(output.path, schemas.SPLIT) as file:
        expected = {row["video_id"]: row["subset"] for row in rows} | {"v_Archery_g99_c01": ""}
        assert dict(zip(file["id"], file["subset"], strict=True)) == expected
        assert file["excluded"][file["id"] == "v_Archery_g99_c01"] == "not in the released lists"
        assert set(file["decision/decided_by"]) == {"published"} and file["overlap"].sum() == 30
        assert file.attributes["kind"] == "published" and file.attributes["not_in_manifest"] == 0


def test_a_busy_server_is_asked_again(server, reference_data, tmp_path):
    url = server(reference_data / "data" / "upstream") + "/busy"
    path = "avgzsl_benchmark_datasets/UCF/class-split/all_class.txt"
    assert published_files.fetch(path, url, tmp_path).read_bytes().startswith(b"ApplyEyeMakeup")


def test_what_is_not_the_released_file(server, tmp_path):
    path = "avgzsl_benchmark_datasets/UCF/class-split/all_class.txt"
    (tmp_path / "other" / path).parent.mkdir(parents=True)
    (tmp_path / "other" / path).write_text("Archery\n")
    url = server(tmp_path / "other")
    with pytest.raises(
        PipelineError, match=r"http://.*found git blob [0-9a-f]{40} \(8 bytes\), expected e7e311f6.*clone"
    ):
        published_files.fetch(path, url, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    with pytest.raises(PipelineError, match="other.*found git blob"):
        published_files.fetch(path, str(tmp_path / "other"), tmp_path / "cache")
    with pytest.raises(PipelineError, match="HTTP Error 404.*expected the released file: try again with a network"):
        published_files.fetch(path, f"{url}/nowhere", tmp_path / "cache")
    with pytest.raises(SettingsError, match="upstream: found 'ftp://.*expected an http"):
        published_files.fetch(path, "ftp://127.0.0.1", tmp_path / "cache")


def test_a_damaged_copy_is_fetched_again(server, reference_data, tmp_path):
    path = "avgzsl_benchmark_datasets/UCF/class-split/all_class.txt"
    url = server(reference_data / "data" / "upstream")
    local = published_files.fetch(path, url, tmp_path)
    local.write_text("damaged")
    assert published_files.fetch(path, url, tmp_path).read_bytes().startswith(b"ApplyEyeMakeup")


def test_blob_ids_are_gits():
    assert published_files.blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert published_files.blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_lists_and_manifest_that_contradict(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(
        "video_id,class_name,subset\n"
        + "".join(
            f"{c}{k},{c},{s}\n"
            for c, s in (("a", "train"), ("b", "train"), ("c", "val_unseen"), ("d", "test_unseen"))
            for k in range(4)
        )
    )
    settings = SplitSettings(kind="table", table=str(table))
    output = h5.Output(tmp_path / "s.h5", schemas.SPLIT)
    manifest = write_manifest(tmp_path / "m.h5", [("a0", "a"), ("b0", "a")])
    with pytest.raises(
        PipelineError, match="t.csv give video 'b0' the class 'b', the manifest says 'a'; expected the same"
    ):
        splits.build(manifest, "folder", S1, settings, frozenset(), output)
    manifest = write_manifest(tmp_path / "m.h5", [("x0", "a"), ("x1", "b")])
    with pytest.raises(PipelineError, match="none of the 2 videos of the manifest .*expected the same ids"):
        splits.build(manifest, "folder", S1, settings, frozenset(), output)
    table.write_text("video_id,class_name,subset\na0,a,training\n")
    with pytest.raises(
        SettingsError, match="found subset 'training' for video 'a0', expected each video once, in one of"
    ):
        published_split.read_split_table(table, "folder", S1)
    table.write_text("video_id,class_name,subset\na0,a,train\na1,a,test_unseen\n")
    with pytest.raises(SettingsError, match="class 'a' has test_unseen and train videos, expected one role"):
        published_split.read_split_table(table, "folder", S1)
    with pytest.raises(SettingsError, match="found published for dataset 'folder', expected one with a released"):
        published_split.load("folder", S1, "x", tmp_path)
