"""The whole line on a small folder of videos, as a user runs it: good and bad files, reruns, changes, crashes."""

from __future__ import annotations

import csv
import json
import random
import shutil
import time

import h5py
import pytest

from pipeline import h5
from tests.running import CLASSES, WORDS, Run, disturb, report_of, scores, started

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("run")]


def test_it_ends_with_the_report(finished):
    assert "generated weights" in (report_of(finished.result) / "index.html").read_text()
    (row,) = scores(finished.result)
    assert (row["dataset"], row["feature_set"], row["method"], row["seed"]) == ("folder", "c3d_vggish", "avca", "0")
    assert row["weights"] == "generated"
    for name in ("S", "U", "HM", "ZSL"):
        assert 0 <= float(row[name]) <= 100


def test_bad_videos_are_counted_with_their_reasons(finished):
    rows = list(csv.reader((report_of(finished.result) / "failures.csv").open()))
    for name, reason in (("empty", "empty"), ("page", "not_media"), ("cut", "truncated")):
        (row,) = [row for row in rows if any(f"/{name}" in cell for cell in row)]
        assert reason in row, rows


def test_decoded_shards_are_gone(finished):
    assert list(finished.root.glob("decoded/*/*.h5")) == []


def test_a_second_run_does_nothing(finished):
    before = finished.inodes()
    begun = time.monotonic()
    result = finished.luigi()
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - begun < 20
    assert started(result) == []
    assert finished.inodes() == before
    assert "Report: " in result.stdout


def test_a_deleted_artefact_is_rebuilt_alone(finished):
    before = finished.contents()
    (path,) = finished.root.glob("split/folder/*.h5")
    path.unlink()
    result = finished.luigi()
    assert started(result) == ["CurateSplit"], result.stderr
    assert finished.contents() == before


def test_a_flipped_byte_is_found_named_and_its_shard_made_anew(finished):
    """Nothing reads a shard's features any more once they are pooled, hence the pooled ones go first."""
    before = finished.contents()
    (pooled,) = finished.root.glob("video_features/folder/*.h5")
    pooled.unlink()
    path = next(path for path in sorted(finished.root.glob("clip_features/folder/*.h5")) if flipped(path))
    result = finished.luigi()
    assert result.returncode != 0 and started(result) == ["PoolFeatures"]
    assert f"FAILED PoolFeatures folder c3d_vggish: {path} is damaged (column" in result.stderr
    assert path.with_name(f"{path.name}.damaged").is_file()
    result = finished.luigi()
    assert started(result) == ["DecodeVideos", "ExtractFeatures", "PoolFeatures"], result.stderr
    assert finished.contents() == before


def flipped(path) -> bool:
    """Flip a bit of the first features of sound in a shard; -> whether it has any."""
    with h5py.File(path) as file:
        column = file["audio/features"]
        if not len(column):
            return False
        place = column.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    return True


def test_one_setting_reruns_what_depends_on_it(finished):
    before = finished.contents()
    finished.settings["split"]["seed"] = 5
    try:
        result = finished.luigi()
    finally:
        del finished.settings["split"]["seed"]
    assert result.returncode == 0, result.stderr
    assert started(result) == ["CurateSplit", "BuildBenchmark", "TrainStage1", "TrainStage2", "Evaluate", "Report"]
    after = finished.contents()
    assert {name: after[name] for name in before} == before, "the old results stay"


def test_an_added_video_redoes_one_shard(finished):
    folder = finished.folder
    extra = folder / "videos" / CLASSES[1] / "099.mp4"
    shutil.copy(folder / "videos" / CLASSES[1] / "000.mp4", extra)
    other = Run(folder, "added")
    shutil.copytree(finished.root, other.root)
    try:
        result = other.luigi("PoolFeatures", "--feature-set", "c3d_vggish")
        assert result.returncode == 0, result.stderr[-3000:]
        assert started(result) == ["BuildManifest", "AcquireVideos", "DecodeVideos", "ExtractFeatures", "PoolFeatures"]
    finally:
        extra.unlink()


def test_killed_at_random_moments_it_ends_the_same(finished):
    expected = finished.contents()
    disturbed = Run(finished.folder, "disturbed")
    assert disturb(disturbed, 8, random.Random(0)) >= 5
    kept = disturbed.inodes()
    result = disturbed.luigi()
    assert result.returncode == 0, result.stderr[-3000:]
    after = disturbed.inodes()
    assert {name: after[name] for name in kept} == kept, "finished work is not repeated"
    contents = disturbed.contents()
    assert contents == {name: expected[name] for name in contents}
    assert scores(result) == scores(finished.result)


def test_a_wrong_request_is_one_clear_line(finished):
    result = finished.python(*finished.command("RunBenchmark", *WORDS, "--methods", "avac")[1:])
    assert result.returncode != 0
    assert result.stderr.strip() == "error: method 'avac' is unknown; did you mean 'avca'?"


def test_a_class_with_too_few_videos_is_one_clear_line(finished, tmp_path):
    shutil.copytree(finished.folder / "videos", tmp_path / "videos")
    for path in sorted((tmp_path / "videos" / CLASSES[2]).iterdir())[1:]:
        path.unlink()
    run = Run(tmp_path)
    run.settings["labels"]["path"] = finished.folder / "words.bin"
    result = run.luigi()
    assert result.returncode != 0
    assert f"{CLASSES[2]!r} has 1" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Not finished" in result.stdout


def test_status_plan_why_and_remove(finished):
    def command(*words):
        asked = [word for word in finished.words() if word not in ("RunBenchmark", "--workers", "2")]
        done = finished.python("-m", "tasks", *words, *asked)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "everything is done" in command("status", "RunBenchmark")
    assert "nothing to do" in command("plan", "RunBenchmark")
    listed = command("remove", "Evaluate", "--below", "RunBenchmark")
    assert "nothing deleted: give --yes" in listed
    assert "scores/folder" in listed and "report/folder" in listed and "stage2" not in listed
    before = finished.contents()
    assert "deleted" in command("remove", "Evaluate", "--below", "--yes", "RunBenchmark")
    assert "Evaluate c3d_vggish avca: 1 of 1" in command("plan", "RunBenchmark")
    assert started(finished.luigi()) == ["Evaluate", "Report"]
    assert finished.contents() == before
    finished.settings["training"]["epochs"] = 3
    try:
        words = finished.words("TrainStage1", "--feature-set", "c3d_vggish")
        told = finished.python("-m", "tasks", "why", *words).stdout
    finally:
        finished.settings["training"]["epochs"] = 2
    assert "epochs: found 2, now 3" in told, told


def test_settings_are_in_every_artefact(finished):
    for path in finished.root.glob("*/*/*.h5"):
        facts = h5.facts(path)
        assert facts["digest"].startswith(path.stem[-8:]), path
        assert json.dumps(facts["settings"]) and facts["provenance"]["versions"]["torch"]
