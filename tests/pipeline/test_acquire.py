"""Acquisition of what is on this machine, and what is remembered of it."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import acquire, demo, local_files, manifest, media
from pipeline.acquire import AcquireSettings
from pipeline.datasets import DATASETS
from pipeline.datasets.folder import FolderSettings
from pipeline.errors import PipelineError, SettingsError, VideoError
from pipeline.ledger import Ledger, Row, tried, usable
from tests.pipeline.acquisition import OFFLINE, Case, new_run, vggsound, write

pytestmark = pytest.mark.usefixtures("fresh_run")


@pytest.fixture
def own(tmp_path, video):
    for number in range(16):
        write(tmp_path / "videos" / "abcd"[number // 4] / f"{number}.mp4", video + bytes(8 + number))
    return Case(tmp_path, "folder", FolderSettings(videos=str(tmp_path / "videos")))


def test_local_files_are_probed_and_hashed(own, video):
    rows = own.run(AcquireSettings())
    assert len(rows) == 16 and {row["status"] for row in rows.values()} == {"ok"}
    row = rows["b/5"]
    assert row["path"] == str(own.root / "videos" / "b" / "5.mp4") and row["bytes"] == len(video) + 13
    assert (row["video_codec"], row["audio_codec"], row["width"], row["height"]) == ("h264", "aac", 160, 120)
    assert (row["fps"], row["frames"], row["duration_s"], row["audio_rate_hz"]) == (25.0, 30, 1.2, 44100)
    assert math.isnan(row["start_s"]) and math.isnan(row["end_s"])
    assert own.missing() == []


def test_bad_files_are_rows_with_a_reason(own, video, children):
    bad = {
        "0": (b"", "empty"), "1": (b"<html>no such video</html>", "not_media"),
        "2": (video[: len(video) // 2], "truncated"), "3": (b"just words", "not_media"),
    }
    for name, (content, _) in bad.items():
        write(own.root / "videos" / "a" / f"{name}.mp4", content)
    os.unlink(own.root / "videos" / "b" / "4.mp4")
    os.symlink("nowhere", own.root / "videos" / "b" / "4.mp4")
    rows = own.run(AcquireSettings())
    found = {name: rows[f"a/{name}"]["reason"] for name in bad}
    assert found == {name: reason for name, (_, reason) in bad.items()}
    assert rows["b/4"]["reason"] == "not_found" and rows["b/5"]["status"] == "ok"
    assert all(row["detail"] and not row["path"] for row in rows.values() if row["reason"])
    listed = [(row["class_name"], row["video_id"], row["reason"]) for row in own.missing()]
    assert listed[0] == ("a", "a/0", "empty") and len(listed) == 5


def test_a_file_that_hangs_its_reader_costs_its_limit_and_no_more(own, children, monkeypatch):
    monkeypatch.setattr(media, "probe", time.sleep)
    monkeypatch.setattr(local_files, "PROBE_LIMIT_S", 0.2)
    found = list(local_files.probe_files([60, 0]))  # type: ignore[list-item]  # seconds to sleep in the place of paths
    assert isinstance(found[0], VideoError) and found[0].reason == "decoder_hung" and found[1] is None


def test_too_many_failures_stop_the_run(own):
    for name in range(12):
        (own.root / "videos" / "abcd"[name // 4] / f"{name}.mp4").write_bytes(b"")
    with pytest.raises(PipelineError, match=r"12 of 16 videos can't be used \(empty 12\), expected at most 50%"):
        own.run(AcquireSettings())
    assert not own.output.exists() and len(own.missing()) == 12


def test_terms_that_change_are_looked_at_again(tmp_path):
    marks = {
        acquire.fingerprint("ucf", settings, tmp_path)
        for settings in (AcquireSettings(), AcquireSettings(max_failed_share=0.1), AcquireSettings(download=False))
    }
    assert len(marks) == 3


def test_what_is_outstanding_is_counted_from_the_ledger(tmp_path):
    settings = AcquireSettings()
    videos, count = acquire.outstanding("ucf", settings, tmp_path)
    assert videos == DATASETS["ucf"].count_videos(DATASETS["ucf"].chosen(None)) > 6000
    assert count == sum(source.bytes for source in DATASETS["ucf"].sources if source.kind == "archive")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put(Row("a", reason="", bytes=300), Row("b", reason="", bytes=100),
                   Row("c", reason="unavailable", permanent=True, tried_at=1.0, attempts=1))
    assert acquire.outstanding("ucf", settings, tmp_path) == (videos - 3, count), "an archive comes whole"
    write(tmp_path / "UCF101.rar", b"")
    assert acquire.outstanding("ucf", settings, tmp_path) == (videos - 3, 0.0)
    clips = DATASETS["vggsound"].count_videos(DATASETS["vggsound"].chosen(None)) - 3
    assert acquire.outstanding("vggsound", settings, tmp_path) == (clips, clips * 200.0)
    assert acquire.outstanding("ucf", AcquireSettings(download=False), tmp_path) == (0, 0.0)
    assert acquire.outstanding("folder", settings, tmp_path) == (0, 0.0)


def test_a_ledger_that_cannot_be_written_is_one_line(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.connection.execute("PRAGMA max_page_count = 8")
        with pytest.raises(PipelineError, match="ledger.sqlite: could not be written: .*full; expected room"):
            ledger.put(*(Row(f"{number}", detail="x" * 1000) for number in range(100)))


def test_shard_content_follows_the_files_and_not_their_place_or_age(own):
    own.run(AcquireSettings())
    before = own.shards
    shutil.move(own.root / "videos", own.root / "elsewhere")
    for path in (own.root / "elsewhere").rglob("*.mp4"):
        os.utime(path, (1, 1))
    own.settings = FolderSettings(videos=str(own.root / "elsewhere"))
    own.run(AcquireSettings())
    assert own.shards == before
    write(own.root / "elsewhere" / "c" / "9.mp4", b"")
    own.run(AcquireSettings())
    changed = [k for k in range(8) if own.shards[k] != before[k]]
    assert changed == [manifest.shard_of("c/9", 8)]


def test_a_file_is_read_again_only_if_it_changed(own, monkeypatch):
    own.run(AcquireSettings())
    read: list[Path] = []
    real = local_files.file_sha256

    def counted(path: Path) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(local_files, "file_sha256", counted)
    own.run(AcquireSettings())
    assert read == []
    os.utime(own.root / "videos" / "a" / "1.mp4", (5, 5))
    own.run(AcquireSettings())
    assert [path.name for path in read] == ["1.mp4"]


def test_the_demo_makes_its_videos_once(tmp_path, monkeypatch):
    made: list[str] = []

    def make(path: Path, name: str, seed: int) -> None:
        made.append(name)
        path.write_bytes(b"")

    monkeypatch.setattr(demo, "write_video", make)
    case = Case(tmp_path, "demo", demo.DemoSettings(videos_per_class=10))
    for _ in range(2):
        rows = case.run(AcquireSettings(max_failed_share=1.0))
    assert len(made) == 160 == len(set(made)) and {row["reason"] for row in rows.values()} == {"empty"}


def test_videos_are_found_in_any_layout_by_their_names(tmp_path, video):
    case = vggsound(tmp_path, ["-aaaaaaaaaa_000030", "bbbbbbbbbbb_000007", "ccccccccccc_000100", "ddddddddddd_000001"])
    clip = write(tmp_path / "one" / "deep" / "down" / "-aaaaaaaaaa_000030.webm", video)
    mirror = write(tmp_path / "two" / "bbbbbbbbbbb_7_17.mp4", video)
    whole = write(tmp_path / "two" / "ccccccccccc.mkv", video)
    write(tmp_path / "two" / "ddddddddddd_000001.mp4.part", video)
    rows = case.run(replace(OFFLINE, folders=(str(tmp_path / "one"), str(tmp_path / "two"))))
    paths = [row["path"] for row in rows.values()]
    assert paths == [str(clip), str(mirror), str(whole), ""]
    assert [row["start_s"] for row in rows.values()][2:3] == [100.0] and rows["ccccccccccc_000100"]["end_s"] == 110.0
    assert math.isnan(rows["-aaaaaaaaaa_000030"]["start_s"])
    assert rows["ddddddddddd_000001"]["reason"] == "not_found"


def test_what_only_has_the_name_of_a_video_is_passed_over(tmp_path, video):
    case = vggsound(tmp_path, ["aaaaaaaaaaa_000030", "bbbbbbbbbbb_000007", "ccccccccccc_000001"])
    here = tmp_path / "here"
    write(here / "audio" / "aaaaaaaaaaa_000030.wav", b"RIFF")
    write(here / "images" / "aaaaaaaaaaa_000030.jpg", b"x")
    write(here / "broken" / "aaaaaaaaaaa_000030.mp4", video[:1000])
    good = write(here / "video" / "aaaaaaaaaaa_000030.mp4", video)
    titled = write(here / "video" / "Trains [at night] [bbbbbbbbbbb].mp4", video)
    broken = write(here / "video" / "ccccccccccc_000001.mp4", video[:1000])
    settings = replace(OFFLINE, folders=(str(here),))
    for _ in range(2):
        rows = case.run(settings)
        assert [row["path"] for row in rows.values()] == [str(good), str(titled), ""]
        assert rows["bbbbbbbbbbb_000007"]["start_s"] == 7.0
        assert rows["ccccccccccc_000001"]["reason"] == "truncated" and str(broken) in case.missing()[0]["detail"]


def test_a_video_that_arrives_later_changes_its_shard_only(tmp_path, video):
    ids = [f"{chr(97 + n) * 11}_000001" for n in range(20)]
    case = vggsound(tmp_path, ids)
    for name in ids[:-1]:
        write(tmp_path / "here" / f"{name}.mp4", video)
    settings = replace(OFFLINE, folders=(str(tmp_path / "here"),))
    assert case.run(settings)[ids[-1]]["reason"] == "not_found"
    before, mark = case.shards, acquire.fingerprint("vggsound", settings, case.output.parent)
    assert acquire.fingerprint("vggsound", settings, case.output.parent) == mark
    write(tmp_path / "here" / f"{ids[-1]}.mp4", video)
    assert acquire.fingerprint("vggsound", settings, case.output.parent) != mark
    assert case.run(settings)[ids[-1]]["status"] == "ok"
    assert [k for k in range(8) if case.shards[k] != before[k]] == [manifest.shard_of(ids[-1], 8)]
    (tmp_path / "here" / f"{ids[0]}.mp4").unlink()
    assert case.run(settings)[ids[0]]["reason"] == "not_found"


def test_what_is_known_of_a_video_outlives_a_smaller_list(tmp_path, video):
    case = vggsound(tmp_path, ["aaaaaaaaaaa_000001", "bbbbbbbbbbb_000001"])
    case.run(OFFLINE)
    store = case.output.parent
    with Ledger(store / "ledger.sqlite") as ledger:
        ledger.put(Row("bbbbbbbbbbb_000001", reason="network", tried_at=1.0, attempts=3))
    settings = AcquireSettings()
    assert acquire.retries_due(tried(store / "ledger.sqlite")[1], settings)
    vggsound(tmp_path, ["aaaaaaaaaaa_000001"]).run(OFFLINE)
    assert tried(store / "ledger.sqlite") == (0, []), "not waited for"
    vggsound(tmp_path, ["aaaaaaaaaaa_000001", "bbbbbbbbbbb_000001"]).run(OFFLINE)
    assert [row.attempts for row in tried(store / "ledger.sqlite")[1]] == [3]


def test_a_ledger_whose_writer_was_killed_can_be_asked(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.put(*(Row(f"{number}", detail="x" * 500, tried_at=1.0) for number in range(500)))
    code = (f"import os, sqlite3\nc = sqlite3.connect({str(path)!r})\nc.execute('PRAGMA cache_size = 1')\n"
            "c.execute(\"UPDATE video SET reason = ''\")\nos.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code])
    assert path.with_name("ledger.sqlite-journal").stat().st_size
    assert len(tried(path)[1]) == 500 and usable(path) == (0, 0.0)


def test_a_reader_that_hung_is_asked_again_after_a_while(tmp_path, own, monkeypatch):
    def hung(paths):
        return [VideoError("decoder_hung", "killed after 30 s")] * len(paths)

    settings = AcquireSettings(max_failed_share=1.0, download=False, retry_after_s=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(local_files, "probe_files", hung)
        assert {row["reason"] for row in own.run(settings).values()} == {"decoder_hung"}
    store = own.output.parent
    assert not acquire.retries_due(tried(store / "ledger.sqlite")[1], settings), "not in this run"
    new_run(monkeypatch)
    assert acquire.retries_due(tried(store / "ledger.sqlite")[1], settings)
    assert {row["status"] for row in own.run(settings).values()} == {"ok"}


def test_a_file_that_is_no_ledger_is_named(tmp_path):
    write(tmp_path / "ledger.sqlite", b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(PipelineError, match="expected the ledger of this dataset's acquisition: move the file away"):
        Ledger(tmp_path / "ledger.sqlite")


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("max_failed_share", 1.5, "0 to 1"), ("retry", "some", "one of transient, all, none"),
    ("retry_after_s", -1.0, "0 or more"),
    ("video_url", "http://x/", "a URL with {id}"), ("concurrent", 0, "1 to 64"), ("sleep_s", -1.0, "0 or more"),
    ("rate_limit_kb_s", -1, "0"), ("timeout_s", 0.0, "more than 0"), ("tries", 0, "1 or more"),
    ("folders", ("/no/where",), "it to exist"), ("archives", ("/no/where.rar",), "it to exist"),
    ("cookies", "/no/where.txt", "it to exist"),
])
def test_settings_are_checked(name, value, expected):
    with pytest.raises(SettingsError, match=rf"\[acquire\] {name}: found .*, expected {expected}"):
        AcquireSettings(**{name: value})
