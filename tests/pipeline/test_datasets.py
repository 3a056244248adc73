"""One conformance suite over all declarations, and what is particular to each."""

from __future__ import annotations

import json
import math
import os

import pytest

from pipeline import schemas
from pipeline.datasets import DATASETS, activitynet, dataset_named, folder
from pipeline.datasets.base import SHARD_SECONDS, shard_count
from pipeline.datasets.folder import FolderSettings
from pipeline.errors import PipelineError, SettingsError

PUBLISHED = ("ucf", "activitynet", "vggsound")


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def own_videos(tmp_path):
    for name in ("barking", "playing flute", "rain", "train horn"):
        for number in range(4):
            write(tmp_path / "videos" / name / f"{number}.mp4")
    return tmp_path / "videos"


def settings_of(name, request):
    """-> settings with which the dataset can be listed here, without a network."""
    if name == "folder":
        return FolderSettings(videos=str(request.getfixturevalue("own_videos")))
    if name in PUBLISHED:
        table = request.getfixturevalue("reference_data") / "data" / "splits" / f"{name}.csv"
        more = {"annotations": ""} if name == "activitynet" else {}
        return DATASETS[name].settings(table=str(table), **more)
    return DATASETS[name].settings()


@pytest.mark.parametrize("name", DATASETS)
def test_a_declaration_says_what_it_must(name):
    dataset = DATASETS[name]
    assert dataset.name == name == dataset_named(name).name
    assert dataset.title and dataset.citation and dataset.licence
    assert set(dataset.protocols) <= {"reference", "corrected"}
    assert dataset.protocols[0] == ("reference" if name in PUBLISHED else "corrected")
    assert all(source.url.startswith(("http://", "https://")) for source in dataset.sources)
    assert bool(dataset.sources) == (name in PUBLISHED)


@pytest.mark.parametrize("name", DATASETS)
def test_a_listing_conforms(name, request):
    dataset, settings = DATASETS[name], settings_of(name, request)
    videos = dataset.list_videos(settings)
    assert len(videos) == len({video.id for video in videos}) == dataset.count_videos(settings)
    assert all(video.group and video.source and video.class_name for video in videos)
    assert all(video.id in dataset.clip_names(video) for video in videos)
    assert all(math.isnan(video.start_s) == math.isnan(video.end_s) for video in videos)
    assert set(dataset.roles) in (set(), {video.class_name for video in videos})
    assert set(dataset.roles.values()) <= set(schemas.ROLES)
    assert dataset.list_videos(settings) == videos and dataset.fingerprint(settings) == dataset.fingerprint(settings)


@pytest.mark.parametrize(("name", "videos", "classes", "fewest", "most"), [
    ("ucf", 6816, 51, 18, 24), ("activitynet", 20348, 200, 360, 450), ("vggsound", 93752, 276, 367, 384),
])
def test_the_benchmarks_have_their_published_sizes(name, videos, classes, fewest, most, request):
    dataset, settings = DATASETS[name], settings_of(name, request)
    found = dataset.list_videos(settings)
    assert (len(found), len({video.class_name for video in found})) == (videos, classes)
    assert {video.subset for video in found} == set(schemas.SUBSETS)
    assert fewest <= dataset.shards(settings) == dataset.shards(dataset.settings()) <= most


def test_the_released_lists_and_the_table_give_the_same_ucf(reference_data):
    ucf = DATASETS["ucf"]
    released = ucf.list_videos(ucf.settings(upstream=str(reference_data / "data" / "upstream")))
    table = ucf.list_videos(ucf.settings(table=str(reference_data / "data" / "splits" / "ucf.csv")))
    assert sorted(released, key=lambda video: video.id) == sorted(table, key=lambda video: video.id)


def test_handstands_are_one_class_under_either_name(reference_data):
    ucf = DATASETS["ucf"]
    videos = ucf.list_videos(ucf.settings(table=str(reference_data / "data" / "splits" / "ucf.csv")))
    handstands = [video for video in videos if "pushups" in video.id.casefold() and "hand" in video.id.casefold()]
    assert {video.class_name for video in handstands} == {"HandstandPushups"}
    names = ucf.clip_names(handstands[0])
    assert any("HandStand" in name for name in names) and any("Handstand" in name for name in names)
    assert handstands[0].group == handstands[0].id[: -len("_c01")]


def test_vggsound_clips_are_cut_from_their_start_and_known_by_the_names_of_mirrors(reference_data):
    vggsound = DATASETS["vggsound"]
    videos = vggsound.list_videos(vggsound.settings(table=str(reference_data / "data" / "splits" / "vggsound.csv")))
    video = next(video for video in videos if video.id == "--0PQM4-hqg_000030")
    assert (video.source, video.group, video.start_s, video.end_s) == ("youtube:--0PQM4-hqg", "--0PQM4-hqg", 30.0, 40.0)
    assert {"--0PQM4-hqg_30", "--0PQM4-hqg_30_40", "--0PQM4-hqg_30000_40000"} <= set(vggsound.clip_names(video))
    assert vggsound.whole_names(video) == ("--0PQM4-hqg",)


def test_activitynet_segments_are_cut_by_annotation(tmp_path, reference_data):
    annotations = tmp_path / "activity_net.v1-3.min.json"
    rows = [{"label": "Archery", "segment": [1.5, 9.0]}, {"label": "Archery", "segment": [20.0, 31.25]}]
    annotations.write_text(json.dumps({"database": {"1o9RGnujlkI": {"annotations": rows}, "x": {"annotations": []}}}))
    dataset = DATASETS["activitynet"]
    table = str(reference_data / "data" / "splits" / "activitynet.csv")
    settings = dataset.settings(table=table, annotations=str(annotations))
    cuts = {video.id: (video.start_s, video.end_s) for video in dataset.list_videos(settings)}
    assert cuts["1o9RGnujlkI_0"] == (1.5, 9.0) and cuts["1o9RGnujlkI_1"] == (20.0, 31.25)
    before = dataset.fingerprint(settings)
    annotations.write_text(json.dumps({"database": {}}))
    assert dataset.fingerprint(settings) != before


@pytest.mark.parametrize("content", [b"<html>not here</html>", b"{}", b'{"database": {"a": {"annotations": [{}]}}}'])
def test_other_files_are_no_annotations(tmp_path, content):
    write(tmp_path / "file.json", content)
    with pytest.raises(PipelineError, match=r"found b'.*expected ActivityNet 1.3's .*json: download"):
        activitynet.segments(str(tmp_path / "file.json"))


def test_absent_annotations_say_where_to_get_them(tmp_path):
    with pytest.raises(PipelineError, match="expected ActivityNet 1.3's annotations: download"):
        activitynet.segments(str(tmp_path / "nowhere.json"))


def test_a_list_with_a_foreign_class_is_refused(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("video_id,class_name,subset\nv_Juggling_g01_c01,Juggling,train\n")
    with pytest.raises(PipelineError, match="found class 'Juggling' in the lists, expected one of its 101 classes"):
        DATASETS["ucf"].list_videos(DATASETS["ucf"].settings(table=str(table)))


def test_an_unknown_dataset_is_named_with_what_there_is():
    with pytest.raises(SettingsError, match="dataset 'vgsound' is unknown; expected one of demo, .*'vggsound'"):
        dataset_named("vgsound")
    with pytest.raises(SettingsError, match="'qqqq' is unknown; .*: check --dataset"):
        dataset_named("qqqq")


def test_shard_counts_are_coarse_and_about_2500_seconds():
    counts = [shard_count(seconds) for seconds in range(0, 3_000_000, 500)]
    assert counts == sorted(counts) and min(counts) == 8
    for seconds, count in zip(range(0, 3_000_000, 500), counts, strict=True):
        assert count == 8 or 0.75 * SHARD_SECONDS <= seconds / count <= SHARD_SECONDS
    assert sorted(set(counts))[:7] == [8, 10, 12, 14, 16, 20, 24]


# The user's own folder.


def listing(path):
    return DATASETS["folder"].list_videos(FolderSettings(videos=str(path)))


def test_a_folder_lists_videos_of_any_suffix_and_depth_and_nothing_else(own_videos):
    write(own_videos / "rain" / "2024" / "heavy — ‘one’.WEBM")
    write(own_videos / "rain" / "without suffix")
    for name in (".hidden.mp4", "notes.txt", "cover.JPG", "half.mp4.part"):
        write(own_videos / "rain" / name)
    write(own_videos / "README.md")
    write(own_videos / ".trash" / "old.mp4")
    os.symlink(own_videos / "rain", own_videos / "rain" / "loop")
    videos = [video for video in listing(own_videos) if video.class_name == "rain"]
    ids = ["rain/0", "rain/1", "rain/2", "rain/2024/heavy — ‘one’", "rain/3", "rain/without suffix"]
    assert [video.id for video in videos] == ids
    assert videos[3].source == str(own_videos / "rain" / "2024" / "heavy — ‘one’.WEBM")


def test_a_folder_is_fingerprinted_by_names_sizes_and_times(own_videos):
    settings = FolderSettings(videos=str(own_videos))
    seen = {folder.fingerprint(settings)}
    write(own_videos / "rain" / "9.mp4")
    seen.add(folder.fingerprint(settings))
    os.utime(own_videos / "rain" / "9.mp4", (1, 1))
    seen.add(folder.fingerprint(settings))
    (own_videos / "rain" / "9.mp4").rename(own_videos / "rain" / "8.mp4")
    seen.add(folder.fingerprint(settings))
    os.symlink("nowhere", own_videos / "rain" / "broken.mp4")
    seen.add(folder.fingerprint(settings))
    assert len(seen) == 5


def test_recordings_of_a_folder(own_videos, tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("video_id,group\nrain/0,monday\nrain/1,monday\nrain/2,\n")
    settings = FolderSettings(videos=str(own_videos), groups=str(table))
    groups = {video.id: video.group for video in DATASETS["folder"].list_videos(settings)}
    assert (groups["rain/0"], groups["rain/1"], groups["rain/2"]) == ("monday", "monday", "rain/2")
    before = folder.fingerprint(settings)
    table.write_text("video_id,group\nrain/0.mp4,monday\n")
    assert folder.fingerprint(settings) != before
    with pytest.raises(PipelineError, match=r"\[folder\] groups: .*found video 'rain/0.mp4' .*of the folder, such as"):
        DATASETS["folder"].list_videos(settings)


def test_errors_of_a_folder(tmp_path, own_videos):
    with pytest.raises(PipelineError, match=r"\[folder\] videos is empty, expected a folder .*: --videos DIR"):
        DATASETS["folder"].list_videos(FolderSettings())
    with pytest.raises(PipelineError, match="nowhere: no such folder, expected one sub-folder .*: check --videos"):
        listing(tmp_path / "nowhere")
    with pytest.raises(PipelineError, match="rain has no sub-folders, expected one sub-folder of videos per class"):
        listing(own_videos / "rain")
    (own_videos / "rain" / "3.mp4").unlink()
    (own_videos / "none").mkdir()
    with pytest.raises(PipelineError, match="class 'none' has 0, 'rain' has 3; expected at least 4 videos per class"):
        listing(own_videos)


def test_a_folder_needs_four_classes(own_videos):
    for path in (own_videos / "rain").iterdir():
        path.unlink()
    (own_videos / "rain").rmdir()
    with pytest.raises(PipelineError, match="found 3 classes, expected at least 4: two to train on"):
        listing(own_videos)


def test_two_files_for_one_id_are_an_error(own_videos):
    write(own_videos / "rain" / "1.mkv")
    with pytest.raises(PipelineError, match="a second file for the video id 'rain/1' .*expected one file per name"):
        listing(own_videos)


def test_a_name_that_is_not_text_is_an_error(own_videos):
    os.rename(os.fsencode(own_videos / "rain" / "1.mp4"), os.fsencode(own_videos / "rain") + b"/caf\xe9.mp4")
    with pytest.raises(PipelineError, match="the name is not valid UTF-8: rename the file"):
        listing(own_videos)
