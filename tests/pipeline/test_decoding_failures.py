"""Files that hang, crash, bloat or lie cost at most their limit and get a reason; the shard goes on."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import h5, schemas
from pipeline.decode_pool import Call, Child, KilledFromOutside, attempt, check_alive, piped, run
from pipeline.decoding import DecodingSettings, decode_shard, plausible_s, summary
from pipeline.errors import REASONS, PipelineError, VideoError
from pipeline.media import probe
from tests.synthetic import make_acquired, make_video, run_ffmpeg

MEMORY_MB = 2048


def add(a, b):
    return a + b


def hang():
    time.sleep(600)


def hang_deaf_with_a_child():
    """Ignores SIGTERM and has a process of its own, as a decoder with an ffmpeg has."""
    import subprocess

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    marker = subprocess.Popen(["sleep", "599.125"])
    marker.wait()


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def leave():
    os._exit(3)


def bloat():
    return len(bytearray(8 << 30))


def refuse():
    raise VideoError("corrupt", "no")


def bug():
    raise KeyError("mistake")


def one(function, *arguments, limit_s=20.0):
    """A job of one call; -> its value, or the reason."""
    try:
        return (yield Call(function, arguments, limit_s))
    except VideoError as error:
        return error.reason


def test_results_come_in_order_whoever_is_first():
    jobs = [one(time.sleep, 0.4), one(add, 1, 2), one(refuse), one(add, 3, 4)]
    assert list(run(jobs, 3, MEMORY_MB)) == [None, 3, "corrupt", 7]
    assert list(run([], 2, MEMORY_MB)) == []


def test_what_goes_wrong_is_a_reason_and_the_next_one_runs():
    started = time.monotonic()
    jobs = [one(hang_deaf_with_a_child, limit_s=1.5), one(crash), one(leave), one(bloat), one(add, 1, 1)]
    assert list(run(jobs, 1, MEMORY_MB)) == ["decoder_hung", "decoder_crashed", "decoder_crashed", "decoder_crashed", 2]
    assert time.monotonic() - started < 30
    commands = [entry.read_bytes() for entry in Path("/proc").glob("[0-9]*/cmdline") if readable(entry)]
    assert not any(b"599.125" in command for command in commands), "what a hung child started dies with it"


def readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes() or True)
    except OSError:
        return False


def test_a_bug_is_not_a_bad_video():
    with pytest.raises(RuntimeError, match="in a decoding process:(.|\n)*KeyError: 'mistake'"):
        list(run([one(bug)], 1, MEMORY_MB))


def test_a_job_may_go_on_after_a_failed_call():
    def job():
        try:
            yield Call(hang, (), 0.5)
        except VideoError as error:
            return error.reason, (yield Call(add, (2, 3), 20.0))

    assert list(run([job()], 1, MEMORY_MB)) == [("decoder_hung", 5)]


def test_a_child_that_died_idle_is_replaced():
    child = Child(MEMORY_MB)
    try:
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        child.submit(Call(add, (1, 2), 20.0))
        result = None
        while result is None:
            assert child.connection.poll(20)
            result = child.result()
        assert result == ("ok", 3) or result[1].reason == "decoder_crashed"
    finally:
        child.stop()


def die_of_memory(tries: Path, survivors: int):
    """As the kernel's killer ends a process; only so many calls live."""
    with tries.open("a") as file:
        file.write("x")
    if tries.stat().st_size < survivors:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries.stat().st_size


def test_a_kill_from_outside_is_no_fault_of_the_video(tmp_path):
    assert list(run([one(die_of_memory, tmp_path / "once", 2)], 1, MEMORY_MB)) == [2]
    with pytest.raises(PipelineError, match=r"killed twice from outside .* expected up to 2048 MB .* \[decoding\]"):
        list(run([one(die_of_memory, tmp_path / "twice", 9)], 1, MEMORY_MB))
    with pytest.raises(KilledFromOutside), piped(["/bin/sh", "-c", "kill -9 $$"]) as process:
        check_alive(process)
    assert attempt(check_alive, (process,)) == ("killed", None)


def test_nothing_is_left_open():
    """Handles and processes after many children are those before."""
    list(run([one(add, 1, 1)], 1, MEMORY_MB))
    before = len(os.listdir("/proc/self/fd"))
    list(run([one(crash), one(add, 1, 1), one(hang, limit_s=0.3)], 2, MEMORY_MB))
    assert len(os.listdir("/proc/self/fd")) == before


def damaged(folder: Path) -> dict[str, tuple[Path, set[str]]]:
    """-> name -> (file, reasons that fit)."""
    plain = make_video(folder / "plain.mp4", 4.0)
    matroska = make_video(folder / "plain.mkv", 4.0)
    avi = make_video(folder / "plain.avi", 4.0, video=("-c:v", "mpeg4", "-q:v", "3"), audio=("-c:a", "mp3"))
    front = folder / "front.mp4"
    run_ffmpeg(["-i", plain, "-c", "copy", "-movflags", "faststart", front])
    made = {}
    for source in (front, matroska, avi):
        whole = source.read_bytes()
        half = folder / f"half{source.suffix}"
        half.write_bytes(whole[:len(whole) // 2])
        made[half.name] = (half, {"truncated"})
    rng = np.random.default_rng(1)
    noise = bytearray(front.read_bytes())
    start = noise.index(b"mdat") + 4
    noise[start:] = rng.bytes(len(noise) - start)
    (folder / "noise.mp4").write_bytes(noise)
    made["noise.mp4"] = (folder / "noise.mp4", {"corrupt", "truncated"})
    (folder / "page.mp4").write_text("<html>sorry</html>" * 30)
    made["page.mp4"] = (folder / "page.mp4", {"not_media"})
    made["short.mp4"] = (make_video(folder / "short.mp4", 0.6), {"too_short"})
    return made


def test_damaged_files_get_reasons_and_cost_no_one_else(tmp_path):
    files = damaged(tmp_path)
    paths = [tmp_path / "plain.mp4", *(path for path, _ in files.values()), tmp_path / "plain.mkv"]
    acquired = make_acquired(tmp_path / "acquired.h5", paths)
    output = h5.Output(tmp_path / "decoded.h5", schemas.DECODED)
    decode_shard(acquired, 0, ("selavi_frames", "selavi_audio"), DecodingSettings(), frozenset(), output)
    with h5.read(output.path, schemas.DECODED) as file:
        status, reasons, details = file["status"].tolist(), file["reason"].tolist(), file["detail"].tolist()
        assert np.diff(file["video/offsets"]).tolist() == [4, *[0] * len(files), 4]
    assert status == ["ok", *["failed"] * len(files), "ok"]
    for (name, (_, fitting)), reason, detail in zip(files.items(), reasons[1:-1], details[1:-1], strict=True):
        assert reason in fitting, (name, reason, detail)
        assert detail and ".clips" not in detail, "the message names the file, not a scratch path"


def test_a_file_that_is_gone_since_it_was_acquired_stops_the_shard(tmp_path):
    paths = [make_video(tmp_path / "plain.mp4", 1.2), tmp_path / "none.mp4"]
    output = h5.Output(tmp_path / "decoded.h5", schemas.DECODED)
    plans = ("selavi_frames", "selavi_audio")
    acquired = make_acquired(tmp_path / "acquired.h5", paths)
    message = r"none.mp4: found no file where AcquireVideos saw one \(1 of 2 .* remove AcquireVideos'"
    with pytest.raises(PipelineError, match=message):
        decode_shard(acquired, 0, plans, DecodingSettings(), frozenset(), output)
    assert not output.path.exists()
    columns = {"status": ["ok", "failed"], "reason": ["", "not_found"]}
    decode_shard(make_acquired(acquired, paths, **columns), 0, plans, DecodingSettings(), frozenset(), output)
    with h5.read(output.path, schemas.DECODED) as file:
        assert file["reason"].tolist() == ["", "not_found"]


def test_the_next_backend_takes_over(tmp_path, monkeypatch):
    """decord hangs: its share of the time is lost, the video is not."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types, time\n"
        "fake = types.ModuleType('decord')\n"
        "fake.DECORDError = type('DECORDError', (Exception,), {})\n"
        "fake.logging = types.SimpleNamespace(set_level=lambda level: None, QUIET=0)\n"
        "fake.cpu = lambda number: None\n"
        "fake.VideoReader = lambda *a, **k: time.sleep(600)\n"
        "sys.modules['decord'] = fake\n"
    )
    paths = [make_video(tmp_path / "a.mp4", 2.0)]
    acquired = make_acquired(tmp_path / "acquired.h5", paths)
    output = h5.Output(tmp_path / "decoded.h5", schemas.DECODED)
    settings = DecodingSettings(timeout_s=6.0, timeout_per_second=0.0)
    decode_shard(acquired, 0, ("c3d_frames", "vggish_audio"), settings, frozenset(), output)
    with h5.read(output.path, schemas.DECODED) as file:
        assert (file["status"][0], file["backend"][0]) == ("ok", "pyav"), file["detail"][0]
    alone = DecodingSettings(timeout_s=1.5, timeout_per_second=0.0, backends=("decord",))
    decode_shard(acquired, 0, ("c3d_frames", "vggish_audio"), alone, frozenset(), output)
    with h5.read(output.path, schemas.DECODED) as file:
        assert file["reason"][0] == "decoder_hung"


def test_a_time_limit_does_not_believe_every_header(tmp_path):
    facts = probe(make_video(tmp_path / "a.mp4", 2.0))
    assert abs(plausible_s(facts, 1_000_000) - 2.0) < 0.1
    assert plausible_s(replace(facts, duration_s=1e9), 1_000_000) == 1000
    assert plausible_s(replace(facts, duration_s=1e9), 10**12) == 4 * 3600
    nothing = replace(facts, duration_s=0.0, audio_duration_s=0.0, container_duration_s=0.0)
    assert plausible_s(nothing, 1_000_000) == 100


def test_reason_of_several_failures():
    hung, crashed, corrupt = (VideoError(r, r) for r in ("decoder_hung", "decoder_crashed", "corrupt"))
    assert summary([hung, hung]) == ("decoder_hung", "decoder_hung; decoder_hung")
    assert summary([hung, crashed, corrupt])[0] == "corrupt"
    assert set(REASONS) > {"decoder_hung", "decoder_crashed"}
