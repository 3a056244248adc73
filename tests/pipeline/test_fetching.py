"""Single videos by yt-dlp, from a server that behaves badly."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import acquire, fetching, h5, manifest, schemas
from pipeline.acquire import AcquireSettings
from pipeline.datasets import DATASETS
from pipeline.errors import SettingsError
from pipeline.ledger import Ledger, Row
from tests.pipeline.acquisition import Case, new_run, online, vggsound, write

pytestmark = pytest.mark.usefixtures("fresh_run")


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
    left = {path.suffix for path in case.output.parent.glob("partial/*/*")}
    assert left == ({".part"} if plan in ("stall", "longer") else set())


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
