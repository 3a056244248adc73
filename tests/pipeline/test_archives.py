"""Archives of videos, given or downloaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import archives
from pipeline.acquire import AcquireSettings
from pipeline.datasets import DATASETS
from pipeline.errors import PipelineError
from tests.pipeline.acquisition import OFFLINE, Case, vggsound, write

pytestmark = pytest.mark.usefixtures("fresh_run")


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
