"""AcquireVideos: one look a run, one host at a time."""

from __future__ import annotations

import time

import pytest

from pipeline import acquire as stage
from pipeline import demo, ledger
from tasks import acquire
from tasks.acquire import AcquireVideos, BuildManifest


@pytest.fixture
def clips(configure, tmp_path):
    """-> folder of a clip of VGGSound, where others may arrive; nothing else is looked for."""
    listed = "".join(f"{key * 11}_000001,air horn,train\n" for key in "ab")
    (tmp_path / "list.csv").write_text(f"video_id,class_name,subset\n{listed}")
    folder = tmp_path / "clips"
    folder.mkdir()
    demo.write_video(folder / "aaaaaaaaaaa_000001.mp4", "red_ball_bouncing/000.mp4", 0)
    configure(vggsound={"table": tmp_path / "list.csv"},
              acquire={"folders": folder, "download": "false", "max_failed_share": 1.0})
    return folder


def test_what_arrives_during_a_run_is_for_the_next_one(clips, monkeypatch):
    monkeypatch.setattr(acquire, "LOOK_S", -1.0)
    monkeypatch.setattr(acquire, "LOOK_TIMES", 0.0)
    monkeypatch.setattr(stage, "RUN_STARTED", time.time())
    BuildManifest(dataset="vggsound").run()
    task = AcquireVideos(dataset="vggsound")
    task.run()
    (clips / "bbbbbbbbbbb_000001.mp4").write_bytes(b"half a file")
    with ledger.Ledger(task.path().parent / "ledger.sqlite") as rows:
        rows.put(ledger.Row("bbbbbbbbbbb_000001", "network", attempts=1, tried_at=time.time() + 1))
    assert task.complete(), "made in this run"
    monkeypatch.setattr(stage, "RUN_STARTED", time.time() + 2)
    assert not task.complete() and BuildManifest(dataset="vggsound").complete()
    (clips / "bbbbbbbbbbb_000001.mp4").rename(clips / "bbbbbbbbbbb_000001.mp4.part")
    assert task.complete(), "what is no video does not count"


def test_the_host_is_the_one_that_is_asked(configure):
    assert AcquireVideos(dataset="ucf").process_resources() == {"host www.crcv.ucf.edu": 1}
    assert AcquireVideos(dataset="vggsound").process_resources() == {"host www.youtube.com": 1}
    assert AcquireVideos(dataset="demo").process_resources() == {}
    configure(acquire={"download": "false"})
    assert AcquireVideos(dataset="ucf").process_resources() == {}
