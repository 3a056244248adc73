"""Acquisition: local files, folders, archives, and yt-dlp against a server that behaves badly."""

from __future__ import annotations

import csv
import hashlib
import http.server
import math
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import acquire, archives, demo, fetching, h5, local_files, manifest, media, schemas
from pipeline.acquire import AcquireSettings
from pipeline.datasets import DATASETS
from pipeline.datasets.folder import FolderSettings
from pipeline.errors import PipelineError, SettingsError, VideoError
from pipeline.ledger import Ledger, Row, tried, usable


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> bytes:
    """A real video of 1.2 s."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    demo.write_video(path, "red_ball_bouncing/000.mp4", 0)
    return path.read_bytes()


def probe_here(paths):
    """Stands for ``local_files.probe_files`` where child processes, which take a second to start, are not the point."""
    for path in paths:
        try:
            yield media.probe(path)
        except VideoError as error:
            yield error


@pytest.fixture(autouse=True)
def fresh_run(monkeypatch, request):
    new_run(monkeypatch)
    if "children" not in request.fixturenames:
        monkeypatch.setattr(local_files, "probe_files", probe_here)


@pytest.fixture
def children():
    """Headers are read in child processes, as in a real run."""


def new_run(monkeypatch):
    """What was tried so far was tried by an earlier run."""
    monkeypatch.setattr(acquire, "RUN_STARTED", time.time())


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class Case:
    """A dataset under ``root``: its manifest, and acquisitions of it."""

    def __init__(self, root: Path, dataset: str, settings):
        self.root, self.dataset, self.settings = root, dataset, settings
        self.output = root / "acquired" / dataset / "acquired.h5"

    def run(self, settings: AcquireSettings) -> dict[str, dict]:
        """-> video id -> its row of the snapshot."""
        path = self.root / "manifest.h5"
        manifest.build(self.dataset, self.settings, h5.Output(path, schemas.MANIFEST))
        self.output.parent.mkdir(parents=True, exist_ok=True)
        acquire.acquire(path, self.dataset, settings, h5.Output(self.output, schemas.ACQUIRED))
        with h5.read(self.output, schemas.ACQUIRED) as file:
            names = [c.name for c in schemas.ACQUIRED.columns if c.axes == ("video",)]
            self.shards = file["shard_content"].tolist()
            columns = [file[name].tolist() for name in names]
        return {row[0]: dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)}

    def missing(self) -> list[dict]:
        with open(self.output.with_suffix(".missing.csv"), encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


# The user's own folder.


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


# Folders, archives.


def vggsound(root: Path, ids: list[str]) -> Case:
    table = root / "list.csv"
    table.write_text("video_id,class_name,subset\n" + "".join(f"{name},air horn,train\n" for name in ids))
    return Case(root, "vggsound", DATASETS["vggsound"].settings(table=str(table)))


OFFLINE = AcquireSettings(download=False, max_failed_share=1.0)


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


def pack(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as packed:
        for name, content in members.items():
            packed.add(write(path.parent / "loose" / "file", content), arcname=name)
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_archives_give_the_wanted_videos_and_nothing_outside(tmp_path, video, suffix):
    case = vggsound(tmp_path, ["aaaaaaaaaaa_000030", "bbbbbbbbbbb_000007"])
    members = {
        "VGG/aaaaaaaaaaa_000030.mp4": video, "../../bbbbbbbbbbb_000007.mp4": video, "VGG/zzzzzzzzzzz_000001.mp4": video,
    }
    archive = pack(tmp_path / f"videos{suffix}", members)
    rows = case.run(replace(OFFLINE, archives=(str(archive),)))
    assert {row["status"] for row in rows.values()} == {"ok"}
    unpacked = case.output.parent / "videos"
    assert sorted(os.listdir(unpacked)) == ["aaaaaaaaaaa_000030.mp4", "bbbbbbbbbbb_000007.mp4"]
    assert not list(tmp_path.glob("bbb*"))


def test_an_archive_that_has_nothing_more_is_not_opened_again(tmp_path, video, monkeypatch):
    case = vggsound(tmp_path, ["aaaaaaaaaaa_000030", "bbbbbbbbbbb_000007", "ccccccccccc_000001"])
    members = {"aaaaaaaaaaa_000030.mp4": video, "ccccccccccc_000001.mp4": video[:1000]}
    archive = pack(tmp_path / "videos.zip", members)
    opened = []
    real = archives.unpack
    monkeypatch.setattr(archives, "unpack", lambda *arguments: opened.append(arguments) or real(*arguments))
    for _ in range(2):
        rows = case.run(replace(OFFLINE, archives=(str(archive),)))
        assert [row["reason"] for row in rows.values()] == ["", "not_found", "truncated"]
    assert len(opened) == 1
    pack(tmp_path / "videos.zip", {**members, "bbbbbbbbbbb_000007.mp4": video})
    assert case.run(replace(OFFLINE, archives=(str(archive),)))["bbbbbbbbbbb_000007"]["status"] == "ok"


def test_archives_that_are_none(tmp_path):
    with pytest.raises(PipelineError, match="no such archive; check"):
        archives.unpack(tmp_path / "nowhere.zip", tmp_path / "out", {"a"})
    with pytest.raises(PipelineError, match="found neither a zip, a tar nor a rar file"):
        archives.unpack(write(tmp_path / "page.zip", b"<html>"), tmp_path / "out", {"a"})
    whole = pack(tmp_path / "whole.tar.gz", {"a.mp4": os.urandom(100_000)}).read_bytes()
    with pytest.raises(PipelineError, match="expected a whole archive: delete it and fetch it again"):
        archives.unpack(write(tmp_path / "half.tar.gz", whole[:50_000]), tmp_path / "out", {"a"})
    assert os.listdir(tmp_path / "out") == []


def test_rar_needs_a_free_tool_and_says_which_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    table = write(tmp_path / "ucf.csv", b"video_id,class_name,subset\nv_Archery_g01_c01,Archery,train\n")
    case = Case(tmp_path, "ucf", DATASETS["ucf"].settings(table=str(table)))
    with pytest.raises(PipelineError, match="bsdtar, .* is not installed: install the package libarchive-tools"):
        case.run(AcquireSettings())


@pytest.mark.skipif(shutil.which("bsdtar") is None, reason="bsdtar is not installed")
def test_a_rar_archive_is_unpacked(tmp_path, video):
    archive = write(tmp_path / "UCF101.rar", rar({"UCF-101/Archery/v_Archery_g01_c01.avi": video, "x/other.avi": b"1"}))
    assert archives.unpack(archive, tmp_path / "out", {"v_Archery_g01_c01"}) == {"v_Archery_g01_c01", "other"}
    assert (tmp_path / "out" / "v_Archery_g01_c01.avi").read_bytes() == video
    assert os.listdir(tmp_path / "out") == ["v_Archery_g01_c01.avi"]


def test_a_rar_archive_leaves_nothing_of_an_unpacking_that_was_killed(tmp_path, monkeypatch):
    """bsdtar is one that brings a single file. The killed process had the number of this one, as in a container."""
    clip = write(tmp_path / "a.avi", b"content")
    program = write(tmp_path / "bin" / "bsdtar", f"#!/bin/sh\n/bin/cp {clip} $4\n".encode())
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    archive = write(tmp_path / "UCF101.rar", b"Rar!\x1a\x07\x00")
    host = os.uname().nodename
    for number in (os.getpid(), 4194399):
        write(tmp_path / "out" / f".UCF101.rar.{host}.{number}.clipsxyz" / "half", b"")
    assert archives.unpack(archive, tmp_path / "out", {"a"}) == {"a"}
    assert os.listdir(tmp_path / "out") == ["a.avi"]
    program.write_text("#!/bin/sh\necho x.avi: No space left on device >&2\nexit 1\n")
    with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device: .*out"):
        archives.unpack(archive, tmp_path / "out", {"b"})


def rar(members: dict[str, bytes]) -> bytes:
    """A RAR 4 archive that stores its members without compression."""
    import struct
    import zlib

    def block(kind: int, flags: int, body: bytes) -> bytes:
        head = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head

    out = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for name, content in members.items():
        facts = struct.pack(
            "<IIBIIBBHI", len(content), len(content), 3, zlib.crc32(content), 0x50000000, 20, 0x30, len(name), 0o100644
        )
        out += block(0x74, 0x8000, facts + name.encode()) + content
    return out + block(0x7B, 0x4000, b"")


# The network.


class Server(http.server.ThreadingHTTPServer):
    """Answers as ``plans`` says: key -> list of plans, one per request, the last one for ever."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.plans: dict[str, list[str]] = {}
        self.asked: list[tuple[str, int]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/{{id}}"

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        key = self.path.strip("/").removeprefix("moved/")
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.server.asked.append((key, start))
        plans = self.server.plans.get(key, ["ok"])
        plan = plans.pop(0) if len(plans) > 1 else plans[0]
        content = self.server.content
        if plan.isdigit():
            return self.send_error(int(plan))
        if plan == "moved" and not self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", f"/moved/{key}")
            return self.end_headers()
        page = plan.startswith("html")
        content = b"<html><title>Sign in to the hotel's network</title></html>" if page else content
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html" if plan == "html" else "video/mp4")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start + (1000 if plan == "longer" else 0)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return None
        # A first small read tells yt-dlp what the URL is; what matters happens in the transfer of the file.
        half = len(content) // 2
        if plan in ("drop", "stall", "stuck") and start < half:
            self.wfile.write(content[start:half])
            self.wfile.flush()
            time.sleep({"drop": 0, "stall": 3, "stuck": 100}[plan])
            return self.connection.shutdown(socket.SHUT_RDWR)
        self.wfile.write(content[start:])
        return None


@pytest.fixture
def server(video):
    with Server(video) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield running
        running.shutdown()


def online(server, **changes) -> AcquireSettings:
    return AcquireSettings(**{
        "video_url": server.url, "sleep_s": 0.0, "timeout_s": 1.0, "tries": 2, "max_failed_share": 1.0, **changes,
    })


def test_videos_are_fetched_once_and_segments_of_one_source_share_a_file(tmp_path, server, video):
    case = vggsound(tmp_path, ["-aaaaaaaaaa_000000", "-aaaaaaaaaa_000001", "bbbbbbbbbbb_000000"])
    server.plans["bbbbbbbbbbb"] = ["moved"]
    rows = case.run(online(server, concurrent=2))
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert {Path(row["path"]).name for row in rows.values()} == {"-aaaaaaaaaa.mp4", "bbbbbbbbbbb.mp4"}
    assert rows["-aaaaaaaaaa_000001"]["start_s"] == 1.0 and rows["-aaaaaaaaaa_000001"]["end_s"] == 11.0
    assert Path(rows["bbbbbbbbbbb_000000"]["path"]).read_bytes() == video
    asked = len(server.asked)
    assert case.run(online(server)) == rows and len(server.asked) == asked
    assert not list((case.output.parent / "partial").iterdir())


@pytest.mark.parametrize(("plan", "reason", "permanent"), [
    ("404", "unavailable", True), ("410", "unavailable", True), ("403", "network", False), ("429", "network", False),
    ("500", "network", False), ("503", "network", False), ("stall", "network", False), ("longer", "network", False),
    ("html", "not_media", False), ("html-as-video", "not_media", False),
])
def test_every_misbehaviour_has_its_reason(tmp_path, server, plan, reason, permanent):
    key = "aaaaaaaaaaa"
    server.plans[key] = [plan]
    case = vggsound(tmp_path, [f"{key}_000000"])
    row = case.run(online(server))[f"{key}_000000"]
    assert (row["status"], row["reason"], row["path"]) == ("failed", reason, "")
    assert case.missing()[0]["permanent"] == ("yes" if permanent else "no")
    assert case.missing()[0]["subset"] == "train"
    assert not list(case.output.parent.glob("videos/*")), "half a file or an error page must not count"


def test_a_dropped_connection_goes_on_where_it_stopped(tmp_path, server, video):
    key = "aaaaaaaaaaa"
    server.plans[key] = ["ok", "drop", "ok"]
    case = vggsound(tmp_path, [f"{key}_000000"])
    row = case.run(online(server, tries=3))[f"{key}_000000"]
    assert row["status"] == "ok" and Path(row["path"]).read_bytes() == video
    assert any(start > 0 for _, start in server.asked), "the second half alone is asked for"


def test_back_off_and_retry_choices(tmp_path, server, monkeypatch):
    case = vggsound(tmp_path, ["aaaaaaaaaaa_000000", "bbbbbbbbbbb_000000"])
    server.plans = {"aaaaaaaaaaa": ["500"], "bbbbbbbbbbb": ["404"]}
    mark = acquire.fingerprint("vggsound", online(server), case.output.parent)
    case.run(online(server))
    assert acquire.fingerprint("vggsound", online(server), case.output.parent) == mark, "a first run is done, too"

    def asked_by(**changes) -> set[str]:
        new_run(monkeypatch)
        server.asked.clear()
        settings = online(server, **changes)
        mark = acquire.fingerprint("vggsound", settings, case.output.parent)
        case.run(settings)
        assert acquire.fingerprint("vggsound", settings, case.output.parent) == mark, "done for this run"
        return {key for key, _ in server.asked}

    assert asked_by() == set(), "within the back-off"
    assert asked_by(retry_after_s=0.0) == {"aaaaaaaaaaa"}, "a permanent failure is not tried again"
    assert asked_by(retry_after_s=0.0, retry="none") == set()
    assert asked_by(retry_after_s=0.0, retry="all") == {"aaaaaaaaaaa", "bbbbbbbbbbb"}
    server.plans.clear()
    assert asked_by(retry_after_s=0.0, retry="all") == {"aaaaaaaaaaa", "bbbbbbbbbbb"}
    assert case.missing() == []
    with Ledger(case.output.parent / "ledger.sqlite") as ledger:
        assert ledger.get("aaaaaaaaaaa_000000").attempts == 4 and ledger.get("aaaaaaaaaaa_000000").tried_at > 0


def test_a_round_that_was_killed_is_not_forgotten(tmp_path, server, monkeypatch):
    """The videos that it fetched are in the ledger, not in the snapshot: a run that retries nothing takes a new one."""
    case = vggsound(tmp_path, ["aaaaaaaaaaa_000000", "bbbbbbbbbbb_000000"])
    server.plans = {"aaaaaaaaaaa": ["500", "500", "ok"], "bbbbbbbbbbb": ["500"]}
    settings, store = online(server, retry_after_s=0.0), case.output.parent
    case.run(settings)
    mark = acquire.fingerprint("vggsound", replace(settings, retry="none"), store)
    new_run(monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(acquire, "fetch_missing", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            case.run(settings)
    assert acquire.fingerprint("vggsound", replace(settings, retry="none"), store) != mark


def test_a_segment_that_nothing_cuts_is_not_fetched_as_a_whole(tmp_path, server):
    table = write(tmp_path / "list.csv", b"video_id,class_name,subset\naaaaaaaaaaa_0,Archery,train\n")
    case = Case(tmp_path, "activitynet", DATASETS["activitynet"].settings(table=str(table), annotations=""))
    assert case.run(online(server))["aaaaaaaaaaa_0"]["reason"] == "not_found" and server.asked == []


def test_a_broken_file_of_the_users_does_not_stand_in_the_way(tmp_path, server, video, monkeypatch):
    keys = ["aaaaaaaaaaa", "bbbbbbbbbbb"]
    case = vggsound(tmp_path, [f"{key}_000000" for key in keys])
    for key in keys:
        write(tmp_path / "here" / f"{key}_000000.mp4", video[:1000])
    server.plans = {"bbbbbbbbbbb": ["404"]}
    done = tmp_path / "done.txt"
    settings = online(server, folders=(str(tmp_path / "here"),), download_archive=str(done))
    for _ in range(2):
        rows = case.run(settings)
        assert [row["reason"] for row in rows.values()] == ["", "unavailable"]
        assert Path(rows["aaaaaaaaaaa_000000"]["path"]).parent == case.output.parent / "videos"
        new_run(monkeypatch)
    assert {key for key, _ in server.asked} == set(keys) and case.missing()[0]["attempts"] == "1"
    assert done.read_text() == "generic aaaaaaaaaaa\n", "what came, once, in yt-dlp's form"


def test_what_is_not_asked_for_stays_as_it_was(tmp_path):
    rows = [Row("a", reason="unavailable", detail="gone", permanent=True, attempts=3, tried_at=1.0), Row("b")]
    known, fresh = acquire.after_try(rows, [], "a", None, tmp_path)
    assert replace(known, tried_at=1.0) == rows[0] and known.tried_at > 1.0
    assert fresh.reason == "network" and fresh.tried_at and not fresh.attempts


def test_what_turns_up_elsewhere_or_leaves_the_list_is_not_waited_for(tmp_path, server, video, monkeypatch):
    ids = ["aaaaaaaaaaa_000000", "bbbbbbbbbbb_000000"]
    server.plans = {name[:11]: ["500"] for name in ids}
    settings = online(server, retry_after_s=0.0)
    vggsound(tmp_path, ids).run(settings)
    write(tmp_path / "here" / "aaaaaaaaaaa_000000.mp4", video)
    case = vggsound(tmp_path, ids[:1])
    settings = replace(settings, folders=(str(tmp_path / "here"),))
    new_run(monkeypatch)
    mark = acquire.fingerprint("vggsound", settings, case.output.parent)
    assert case.run(settings)[ids[0]]["status"] == "ok"
    assert acquire.fingerprint("vggsound", settings, case.output.parent) == mark


def test_the_wait_doubles(monkeypatch):
    settings = AcquireSettings(retry_after_s=100.0)
    now = acquire.RUN_STARTED
    row = Row("a", reason="network", attempts=3, tried_at=now - 399)
    assert not acquire.due(row, settings)
    assert acquire.due(replace(row, tried_at=now - 401), settings)
    assert acquire.due(replace(row, attempts=60, tried_at=now - acquire.LONGEST_WAIT_S - 1), settings)


def test_a_host_that_refuses_is_left_in_peace(tmp_path, server):
    keys = [chr(97 + n) * 11 for n in range(8)]
    server.plans = {key: ["429"] for key in keys}
    case = vggsound(tmp_path, [f"{key}_000000" for key in keys])
    rows = case.run(online(server))
    assert len({key for key, _ in server.asked}) <= acquire.THROTTLED_LIMIT + 1
    assert {row["reason"] for row in rows.values()} == {"network"}
    assert "had refused too many" in rows[f"{keys[-1]}_000000"]["detail"]


def test_killed_in_a_transfer_the_next_run_goes_on(tmp_path, server, video):
    keys = ["aaaaaaaaaaa", "bbbbbbbbbbb"]
    server.plans["bbbbbbbbbbb"] = ["ok", "stuck", "ok"]
    case = vggsound(tmp_path, [f"{key}_000000" for key in keys])
    manifest.build("vggsound", case.settings, h5.Output(tmp_path / "manifest.h5", schemas.MANIFEST))
    case.output.parent.mkdir(parents=True)
    code = (
        "import sys; from pathlib import Path; from pipeline import acquire, h5, schemas\n"
        f"acquire.acquire(Path({str(tmp_path / 'manifest.h5')!r}), 'vggsound', acquire.AcquireSettings(video_url="
        f"{server.url!r}, sleep_s=0.0, timeout_s=30.0), h5.Output(Path({str(case.output)!r}), schemas.ACQUIRED))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(acquire.__file__).parents[1])
    deadline = time.monotonic() + 60
    store = case.output.parent
    half: list[Path] = []
    while not (half and list(store.glob("videos/*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
        half = [path for path in store.glob("partial/bbbbbbbbbbb/*.part") if path.stat().st_size]
    process.kill()
    process.wait()
    assert half and half[0].exists() and not case.output.exists()
    assert os.listdir(store / "videos") == ["aaaaaaaaaaa.mp4"]
    server.asked.clear()
    rows = case.run(online(server))
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert {key for key, _ in server.asked} == {"bbbbbbbbbbb"}, "what is here is not fetched twice"
    assert any(start > 0 for _, start in server.asked)
    assert Path(rows["bbbbbbbbbbb_000000"]["path"]).read_bytes() == video


def test_an_archive_is_downloaded_with_resume(tmp_path, server, video, monkeypatch):
    monkeypatch.setattr(archives, "time", types.SimpleNamespace(sleep=lambda seconds: None))
    server.plans["clips.zip"] = ["drop", "500", "ok"]
    url = server.url.replace("{id}", "clips.zip")
    path = archives.download(url, tmp_path / "clips.zip", hashlib.sha256(video).hexdigest(), timeout_s=5)
    assert path.read_bytes() == video and [start for _, start in server.asked] == [0, len(video) // 2, len(video) // 2]
    assert archives.download(url, path) == path and len(server.asked) == 3
    with pytest.raises(PipelineError, match="expected 12ab; it is not the published archive"):
        archives.download(url, tmp_path / "other.zip", "12ab")
    assert not list(tmp_path.glob("other*"))
    server.plans["gone.zip"] = ["404"]
    with pytest.raises(PipelineError, match=r"404.*expected the archive: run again .* \[acquire\] archives"):
        archives.download(server.url.replace("{id}", "gone.zip"), tmp_path / "gone.zip")


@pytest.mark.parametrize(("message", "reason", "permanent"), [
    ("[youtube] x: Private video. Sign in if you've been granted access to this video", "unavailable", True),
    ("[youtube] x: Video unavailable. This video has been removed by the uploader", "unavailable", True),
    ("[youtube] x: Video unavailable. This video is not available in your country", "blocked", True),
    ("[youtube] x: Sign in to confirm your age. This video may be inappropriate for some users.", "blocked", True),
    ("[youtube] x: Sign in to confirm you’re not a bot. Use --cookies", "network", False),
    ("[youtube] x: Video unavailable. This content isn't available, try again later.", "network", False),
    ("[youtube] x: The uploader's account has been terminated", "unavailable", True),
    ("[youtube] x: Join this channel to get access to members-only content", "blocked", True),
    ("Unable to download webpage: The read operation timed out", "network", False),
    ("[youtube] x: The uploader has not made this video available in your country\nIt is in Japan.", "blocked", True),
    ("[generic] Unable to download webpage: HTTP Error 503: Service Unavailable (caused by ...)", "network", False),
    ("[youtube] x: ('Unable to connect to proxy', 'Tunnel failed: 503 Service Unavailable')", "network", False),
    ("[youtube] x: This live stream recording is not available.", "unavailable", True),
    ("[youtube] x: This video isn't available anymore", "unavailable", True),
    ("[youtube] x: This video is DRM protected", "encrypted", True),
    ("[youtube] x: Requested format is not available. Use --list-formats", "network", False),
    ("[youtube] terminated-: Unable to extract the player", "network", False),
])
def test_messages_of_sources_have_their_meaning(message, reason, permanent):
    from yt_dlp.utils import DownloadError

    found = fetching.meaning(DownloadError(f"\x1b[0;31mERROR:\x1b[0m {message}"))
    assert (found[0], found[2]) == (reason, permanent) and "\x1b" not in found[1] and "ERROR" not in found[1]


def test_what_yt_dlp_says_in_its_errors():
    from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError

    geo = DownloadError("ERROR: somewhere", (GeoRestrictedError, GeoRestrictedError("no", ["JP"]), None))
    assert fetching.meaning(geo) == ("blocked", "somewhere", True)
    assert fetching.meaning(TypeError("no attribute")) == ("network", "TypeError: no attribute", False)
    full = DownloadError("ERROR: unable to write data: [Errno 28] No space left on device")
    assert fetching.storage_error(full) == 28
    assert fetching.storage_error(ExtractorError("refused", cause=PermissionError(13, "no", "/videos/x"))) == 13
    assert fetching.storage_error(ExtractorError("refused", cause=PermissionError(13, "no"))) is None, "of a socket"
    asked = fetching.Outcome(None, *fetching.meaning(DownloadError("ERROR: [youtube] a-429-bcdef: Private video")))
    assert not asked.throttled and asked.permanent


def test_a_full_disk_is_no_fault_of_the_video(tmp_path, monkeypatch):
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import DownloadError

    def full(self, url, download):
        self.report_warning("No supported JavaScript runtime could be found")
        raise DownloadError(told)

    monkeypatch.setattr(YoutubeDL, "extract_info", full)
    told = "ERROR: unable to write data: [Errno 28] No space left on device"
    with pytest.raises(OSError, match="No space left on device: '.*aaaaaaaaaaa'"):
        fetching.fetch("aaaaaaaaaaa", tmp_path, AcquireSettings(sleep_s=0.0).fetch)
    told = "ERROR: [youtube] x: No video formats found!"
    outcome = fetching.fetch("aaaaaaaaaaa", tmp_path, AcquireSettings(sleep_s=0.0).fetch)
    assert (outcome.reason, outcome.permanent) == ("not_media", False)
    assert outcome.detail.endswith("formats found! (No supported JavaScript runtime could be found)")


def test_what_is_passed_through_to_yt_dlp(tmp_path):
    cookies = str(write(tmp_path / "cookies.txt", b"# Netscape HTTP Cookie File"))
    settings = AcquireSettings(cookies=cookies, proxy="socks5://localhost:1", rate_limit_kb_s=500, sleep_s=8.0)
    chosen = fetching.options(tmp_path / "100%", settings.fetch, fetching.Said())
    assert (chosen["cookiefile"], chosen["proxy"]) == (cookies, "socks5://localhost:1")
    assert (chosen["ratelimit"], chosen["sleep_interval"], chosen["sleep_interval_requests"]) == (512000, 8.0, 2.0)
    assert chosen["format"].startswith("bv*[vcodec^=avc1]") and "100%%/video" in chosen["outtmpl"]["default"]


def test_a_key_that_is_no_file_name_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"source key '\.\./x': expected letters, digits"):
        fetching.fetch("../x", tmp_path, AcquireSettings().fetch)


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
