"""A decoded shard holds frame i and second t: proved by a number in each picture and a tone in each second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import decoding, h5, schemas
from pipeline.crops import selavi_crop_uint8
from pipeline.decode_pool import attempt
from pipeline.decoders import read_frames, read_timeline
from pipeline.decoding import DecodingSettings, decode_shard
from pipeline.errors import SettingsError, VideoError
from pipeline.media import MAX_PIXELS, probe
from pipeline.sound import read_sound
from pipeline.windows import plans_of
from tests.synthetic import (
    TONE_START_S,
    counted_sound,
    find_tone,
    make_acquired,
    make_video,
    read_counter,
    run_ffmpeg,
)

NONE: frozenset[str] = frozenset()
NAN = float("nan")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-pix_fmt", "yuv420p")
BFRAMES = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "12", "-bf", "3", "-g", "12", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac", "-b:a", "128k")
SETS = {"selavi": ("selavi_frames", "selavi_audio"), "c3d_vggish": ("c3d_frames", "vggish_audio")}


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    """Jobs run here, which saves starting a child for each; tests marked ``children`` go through the real ones."""
    if "children" not in request.fixturenames:
        monkeypatch.setattr(decoding, "run", run_here)


@pytest.fixture
def children():
    """Asks for real child processes."""


def run_here(jobs, processes, memory_mb):
    for job in jobs:
        result, failure = None, None
        while True:
            try:
                call = job.throw(failure) if failure else job.send(result)
            except StopIteration as stop:
                yield stop.value
                break
            kind, value = attempt(call.function, call.arguments)
            assert kind != "bug", value
            result, failure = (value, None) if kind == "ok" else (None, value)


def decode(folder: Path, paths: list[Path], plans=SETS["selavi"], published=NONE, settings=None, **columns):
    """-> the open columns of a shard of these files, as a dict."""
    acquired = make_acquired(folder / "acquired.h5", paths, **columns)
    output = h5.Output(folder / "decoded.h5", schemas.DECODED)
    decode_shard(acquired, 0, plans, settings or DecodingSettings(), published, output)
    with h5.read(output.path, schemas.DECODED) as file:
        return {column.name: file[column.name] for column in schemas.DECODED.columns}


def numbers(path: Path, backend: str, wanted=None) -> list[int]:
    facts = probe(path)
    _, frames, _ = read_timeline(path, facts, MAX_PIXELS)
    wanted = np.arange(len(frames.ticks)) if wanted is None else np.asarray(wanted)
    return [read_counter(picture) for _, picture in read_frames(backend, frames, wanted)]


def tones(shard: dict, rate: int) -> list[tuple[int, float]]:
    """-> (second by its tone, start of the burst in ms off its place) of every sound clip."""
    found = []
    for samples in shard["audio/samples"]:
        start, frequency = find_tone(samples, rate)
        found.append((round((frequency - 400) / 100), (start - TONE_START_S) * 1000))
    return found


def assert_seconds(shard: dict, seconds: int, rate: int = 44100, first: int = 0, slack_ms: float = 4.0) -> None:
    found = tones(shard, rate)
    assert [second for second, _ in found] == list(range(first, first + seconds)), found
    assert max(abs(off) for _, off in found) < slack_ms, found


def counters(shard: dict) -> np.ndarray:
    return np.array([[read_counter(picture) for picture in clip] for clip in shard["video/frames"]])


FILES: dict[str, dict] = {
    "h264.mp4": dict(video=H264),
    "bframes.mp4": dict(video=BFRAMES),
    "bframes.mkv": dict(video=BFRAMES),
    "open_gop.mp4": dict(video=(*BFRAMES, "-x264-params", "open-gop=1")),
    "hevc.mp4": dict(video=("-c:v", "libx265", "-preset", "ultrafast", "-crf", "14", "-x265-params",
                            "log-level=error:keyint=12", "-pix_fmt", "yuv420p")),
    "mpeg4_bframes.avi": dict(video=("-c:v", "mpeg4", "-bf", "2", "-g", "12", "-q:v", "2"), audio=("-c:a", "mp3")),
    "vp9.webm": dict(video=("-c:v", "libvpx-vp9", "-b:v", "1M", "-deadline", "realtime", "-cpu-used", "8"),
                     audio=("-c:a", "libopus")),
    "av1.mkv": dict(video=("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-b:v", "1M"),
                    audio=("-c:a", "libvorbis")),
    "mjpeg.mov": dict(video=("-c:v", "mjpeg", "-q:v", "2"), audio=("-c:a", "pcm_s16le")),
    "odd_size.mp4": dict(size=(121, 163), video=("-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv444p")),
    "bt709.mp4": dict(video=("-vf", "scale=out_color_matrix=bt709", *H264, "-colorspace", "bt709",
                             "-color_primaries", "bt709", "-color_trc", "bt709")),
    "full_range.mp4": dict(video=("-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuvj420p")),
    "interlaced.mp4": dict(video=(*H264, "-flags", "+ilme+ildct", "-x264opts", "tff=1")),
    "stream.ts": dict(video=H264),
    "stream.mpg": dict(video=("-c:v", "mpeg2video", "-q:v", "2"), audio=("-c:a", "mp2")),
    "wide_pixels.mp4": dict(video=("-vf", "setsar=2", *H264)),
}

NOT_FOR_DECORD = {"av1.mkv": ".*video stream", **dict.fromkeys(("stream.ts", "stream.mpg"), "not for a file whose")}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """-> function from a name in FILES to the path of that video, made once."""
    folder = tmp_path_factory.mktemp("videos")

    def get(name: str) -> Path:
        path = folder / name
        return path if path.exists() else make_video(path, 2.0, **FILES[name])

    return get


@pytest.mark.parametrize("name", FILES)
def test_backends_agree_to_the_frame_and_the_grey_level(library, name):
    path = library(name)
    facts = probe(path)
    _, frames, _ = read_timeline(path, facts, MAX_PIXELS)
    assert len(frames.ticks) == 50
    pictures = {}
    for backend in ("decord", "pyav", "ffmpeg"):
        if backend == "decord" and name in NOT_FOR_DECORD:
            with pytest.raises(VideoError, match=f"corrupt: decord: {NOT_FOR_DECORD[name]}"):
                numbers(path, backend)
            continue
        if (name, backend) == ("stream.ts", "ffmpeg"):
            continue  # imageio-ffmpeg's build dies of transport streams, others do not
        pictures[backend] = np.stack([picture for _, picture in read_frames(backend, frames, np.arange(50))])
        assert [read_counter(picture) for picture in pictures[backend]] == list(range(50)), backend
    reference = pictures["pyav"].astype(int)
    for backend, made in pictures.items():
        assert np.abs(made - reference).mean() <= 1.0, backend


@pytest.mark.parametrize("backend", ["decord", "pyav", "ffmpeg"])
@pytest.mark.parametrize("name", ["h264.mp4", "bframes.mkv", "open_gop.mp4", "mpeg4_bframes.avi", "vp9.webm"])
def test_chosen_frames_alone(library, name, backend):
    """Skipping, and starting in the middle, does not shift what comes."""
    for wanted in ([0, 3, 4, 17, 18, 40, 49], [13, 14], [37], [25, 26, 27, 48]):
        assert numbers(library(name), backend, wanted) == wanted


@pytest.mark.parametrize("name", ["open_gop.mp4", "bframes.mkv"])
def test_pyav_seeks_into_a_long_video(tmp_path, name):
    path = make_video(tmp_path / name, 14.0, rate="15", **FILES[name])
    for wanted in ([200, 201, 209], [140], [121, 150]):
        assert numbers(path, "pyav", wanted) == wanted


def test_a_shard(tmp_path, library):
    """Seconds, frames and tones of both feature sets, in every container and codec."""
    paths = [library(name) for name in FILES]
    for feature_set, plans in SETS.items():
        shard = decode(tmp_path, paths, plans)
        assert shard["status"].tolist() == ["ok"] * len(paths), shard["detail"]
        assert shard["id"].tolist() == [f"video{n}" for n in range(len(paths))]
        np.testing.assert_array_equal(shard["video/offsets"], np.arange(len(paths) + 1) * 2)
        np.testing.assert_array_equal(shard["audio/offsets"], shard["video/offsets"])
        np.testing.assert_array_equal(shard["video/start_s"], np.tile([0.0, 1.0], len(paths)))
        assert shard["backend"].tolist() == ["pyav" if name in NOT_FOR_DECORD else "decord" for name in FILES]
        local = np.arange(30) * 24 // 29 if feature_set == "selavi" else 25 * np.arange(16) // 16
        np.testing.assert_array_equal(counters(shard), np.tile([local, 25 + local], (len(paths), 1)))
        found = tones(shard, 44100 if feature_set == "selavi" else 16000)
        assert [second for second, _ in found] == [0, 1] * len(paths)
        assert max(abs(off) for _, off in found) < 30, "codecs delay a little"
        assert (shard["video/frames_valid"] == len(local)).all()
    assert np.abs(shard["audio/samples"]).max() <= 1.2


@pytest.mark.parametrize("rate", ["15", "1962/100", "24000/1001", "25", "30000/1001", "30", "60"])
def test_rates(tmp_path, rate):
    path = make_video(tmp_path / "a.mkv", 3.1, rate=rate)
    shard = decode(tmp_path, [path])
    top, _, bottom = rate.partition("/")
    times = np.arange(round(3.1 * int(top) / int(bottom or 1))) * int(bottom or 1) / int(top)
    for second, row in enumerate(counters(shard)):
        native = np.flatnonzero((times > second - 6e-4) & (times < second + 1 - 6e-4))
        np.testing.assert_array_equal(row, native[np.arange(30) * (len(native) - 1) // 29])
    assert_seconds(shard, 3)


def test_variable_rate(tmp_path):
    """Frames 0..24 at 25 a second, 25..49 at 10 a second: time decides, not the average rate."""
    path = make_video(tmp_path / "a.mp4", 2.0, video=(
        "-vf", "settb=1/12800,setpts='if(lt(N,25),N/25,1+(N-25)/10)/TB'", "-fps_mode", "vfr",
        "-enc_time_base", "1/12800", *H264,
    ), sound=counted_sound(3.5))
    shard = decode(tmp_path, [path])
    rows = counters(shard)
    assert [set(row) for row in rows] == [set(range(25)), set(range(25, 35)), set(range(35, 45))]
    assert_seconds(shard, 3)
    shown = counters(decode(tmp_path, [path], SETS["c3d_vggish"]))[1]
    np.testing.assert_array_equal(shown, 25 + (25 * np.arange(16) // 16) * 10 // 25)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("late, offset_s", [("audio", 1.2), ("video", 0.6), ("video", -0.4)])
def test_one_clock(tmp_path, container, late, offset_s):
    """A stream that starts late, or before zero. Corrected: sound of second t is with the pictures of second t."""
    sound = ("-c:a", "pcm_s16le") if container == "mkv" else AAC
    plain = make_video(tmp_path / f"plain.{container}", 4.0, audio=sound)
    path = tmp_path / f"late.{container}"
    maps = ["-map", "0:v", "-map", "1:a"] if late == "video" else ["-map", "1:v", "-map", "0:a"]
    run_ffmpeg(["-itsoffset", str(offset_s), "-i", plain, "-i", plain, *maps, "-c", "copy",
                "-avoid_negative_ts", "disabled" if offset_s < 0 else "auto", path])
    hidden = container == "mp4" and offset_s < 0
    shift = 0.0 if hidden else -offset_s if late == "video" else offset_s
    shard = decode(tmp_path, [path])
    first = 10 if hidden else 0  # an edit list hides what is early
    np.testing.assert_array_equal(counters(shard)[0], first + np.arange(30) * 24 // 29)
    for second, samples in enumerate(shard["audio/samples"]):
        sounding = np.abs(samples) > 3000
        expected = np.zeros(44100, bool)
        for tone in range(4):
            burst = (tone + TONE_START_S + shift - second) * 44100
            expected[int(np.clip(burst, 0, 44100)):int(np.clip(burst + 0.05 * 44100, 0, 44100))] = True
        assert abs(sounding.sum() - expected.sum() * 0.9) < 500
        if expected.any():
            assert abs(np.flatnonzero(sounding)[0] - np.flatnonzero(expected)[0]) < 0.008 * 44100, second
    published = decode(tmp_path, [path], published=frozenset({"audio_start"}))
    assert_seconds(published, len(published["audio/samples"]), slack_ms=30)


def test_a_gap_in_the_sound_is_filled(tmp_path):
    """Sound packets of 0.5 s are missing; what follows stays in its place."""
    plain = make_video(tmp_path / "plain.mkv", 4.0, audio=("-c:a", "pcm_s16le"))
    path = tmp_path / "gap.mkv"
    run_ffmpeg(["-i", plain, "-c", "copy", "-bsf:a", "noise=drop='gt(pts*tb,1.4)*lt(pts*tb,1.9)'", path])
    assert_seconds(decode(tmp_path, [path]), 4)
    second, off_ms = tones(decode(tmp_path, [path], published=frozenset({"audio_start"})), 44100)[2]
    assert second == 3 and 400 < off_ms < 600, "published: gaps are closed"


def test_edit_lists(tmp_path):
    """A copy cut between key frames: an edit list hides the frames before the cut."""
    plain = make_video(tmp_path / "plain.mp4", 4.0, video=BFRAMES)
    path = tmp_path / "cut.mp4"
    run_ffmpeg(["-ss", "0.6", "-i", plain, "-c", "copy", path])
    shard = decode(tmp_path, [path])
    assert counters(shard)[0, 0] == 15 and shard["backend"][0] == "pyav"
    assert numbers(path, "ffmpeg") == numbers(path, "pyav") == list(range(15, 100))


def test_edit_lists_deviation(tmp_path):
    """An empty edit (a late start): published windows go by the timestamps as they are."""
    plain = make_video(tmp_path / "plain.mp4", 4.0, video=BFRAMES)
    path = tmp_path / "late.mp4"
    run_ffmpeg(["-itsoffset", "0.4", "-i", plain, "-i", plain, "-map", "0:v", "-map", "1:a", "-c", "copy", path])
    windows = frozenset({"selavi_windows", "selavi_short", "audio_start"})
    corrected = counters(decode(tmp_path, [path], published=windows))
    published = counters(decode(tmp_path, [path], published=windows | {"edit_lists"}))
    assert corrected[0, :2].tolist() == [0, 0] and corrected[2, 0] == 15
    assert published[0].max() == 15 and published[2, 0] == 5


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("backend", ["decord", "pyav", "ffmpeg"])
def test_rotated_files_are_upright(tmp_path, degrees, backend):
    filters = {90: "transpose=clock", 180: "hflip,vflip", 270: "transpose=cclock"}[degrees]
    turned = make_video(tmp_path / "turned.mp4", 1.2, size=(120, 160), video=("-vf", filters, *H264))
    path = tmp_path / "rotated.mp4"
    run_ffmpeg(["-display_rotation", str(degrees), "-i", turned, "-c", "copy", path])
    assert numbers(path, backend) == list(range(30))
    shard = decode(tmp_path, [path], settings=DecodingSettings(backends=(backend,)))
    assert counters(shard)[0, -1] == 24


def test_mirrored_files_are_upright(tmp_path):
    turned = make_video(tmp_path / "turned.mp4", 1.2, video=("-vf", "hflip", *H264))
    path = tmp_path / "mirrored.mp4"
    run_ffmpeg(["-display_hflip", "-i", turned, "-c", "copy", path])
    assert numbers(path, "pyav") == numbers(path, "ffmpeg") == list(range(30))
    with pytest.raises(VideoError, match="corrupt: decord: not for .* mirrors"):
        numbers(path, "decord")


@pytest.mark.parametrize("rate, channels, codec", [
    (8000, 1, "aac"), (16000, 2, "aac"), (22050, 2, "aac"), (48000, 6, "aac"), (96000, 2, "pcm_s16le"),
    (48000, 1, "libopus"),
])
def test_sound_of_any_rate_and_layout(tmp_path, rate, channels, codec):
    path = make_video(tmp_path / "a.mkv", 2.0, audio=("-c:a", codec, "-ar", str(rate)),
                      sound=counted_sound(2.0, rate, channels), sound_rate=rate)
    facts = probe(path)
    assert (facts.audio_rate_hz, facts.audio_channels) == (rate, channels)
    assert_seconds(decode(tmp_path, [path]), 2, slack_ms=8)
    assert_seconds(decode(tmp_path, [path], SETS["c3d_vggish"]), 2, 16000, slack_ms=8)


def test_stereo_becomes_the_mean(tmp_path):
    sound = counted_sound(2.0, 44100, 2)
    sound[:, 1] = 0
    path = make_video(tmp_path / "a.mkv", 2.0, audio=("-c:a", "pcm_s16le"), sound=sound)
    unit = decode(tmp_path, [path], SETS["c3d_vggish"])["audio/samples"]
    assert abs(np.abs(unit).max() - 0.25) < 0.01
    scaled = decode(tmp_path, [path])["audio/samples"]
    assert abs(np.abs(scaled).max() / 32768 - 0.25) < 0.01 and np.array_equal(scaled, np.rint(scaled))


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4_bframes.avi", "vp9.webm"])
@pytest.mark.parametrize("plan", ["selavi_audio", "vggish_audio"])
def test_both_readers_of_sound_agree(tmp_path, library, monkeypatch, name, plan):
    """PyAV's takes over where the ffmpeg program dies of a file."""
    facts = probe(library(name))
    sound_plan = plans_of("c3d_frames", plan)[1]
    made = []
    for crash in (False, True):
        if crash:
            monkeypatch.setattr("pipeline.sound.sound_command", lambda *arguments: ["sh", "-c", "kill -SEGV $$"])
        for zero_s in (None, 0.0):
            target = tmp_path / f"{crash}{zero_s}"
            samples, decoded_s = read_sound(library(name), facts, sound_plan, zero_s, (NAN, NAN), target)
            assert target.stat().st_size == samples * 4 and abs(decoded_s - 2.0) < 0.1
            made.append(np.fromfile(target, "<f4"))
    for ours, theirs in zip(made[:2], made[2:], strict=True):
        assert abs(len(ours) - len(theirs)) < 50
        size = min(len(ours), len(theirs))
        assert np.abs(ours[:size] - theirs[:size]).max() <= 0.01 * np.abs(ours).max()


@pytest.mark.parametrize("sound_s, seconds", [(1.5, 1), (4.0, 3)])
def test_sound_shorter_or_longer_than_the_pictures(tmp_path, sound_s, seconds):
    path = make_video(tmp_path / "a.mp4", 3.0, sound=counted_sound(sound_s))
    assert_seconds(decode(tmp_path, [path]), seconds)


def test_no_frame_count_and_no_duration(tmp_path, library):
    """A stream as a live recorder writes it: nothing in the header says how long it is."""
    path = tmp_path / "live.mkv"
    run_ffmpeg(["-i", library("h264.mp4"), "-c", "copy", "-live", "1", "-f", "matroska", path])
    facts = probe(path)
    assert facts.frames == 0 and facts.duration_s == 0
    assert_seconds(decode(tmp_path, [path]), 2)


def test_cover_art_is_not_the_video(tmp_path, library):
    path = tmp_path / "cover.mp4"
    run_ffmpeg(["-f", "lavfi", "-i", "color=red:s=64x64:d=0.04", "-i", library("h264.mp4"), "-map", "0:v", "-map", "1",
                "-c", "copy", "-c:v:0", "mjpeg", "-disposition:v:0", "attached_pic", path])
    shard = decode(tmp_path, [path])
    assert counters(shard)[1, 0] == 25 and shard["backend"][0] == "pyav"


@pytest.mark.parametrize("name", [
    "with space.mp4", "-rf.mp4", "quote'\".mp4", "日本語 ü.mp4", "%03d.mp4", "http:__x.mp4", "a;b&c$(d).mp4",
    "no_extension",
])
def test_odd_names(tmp_path, library, name):
    folder = tmp_path / "-odd dir"
    folder.mkdir()
    path = folder / name
    path.write_bytes(library("h264.mp4").read_bytes())
    assert decode(tmp_path, [path])["status"].tolist() == ["ok"]
    forced = decode(tmp_path, [path], settings=DecodingSettings(backends=("ffmpeg",)))
    assert forced["backend"].tolist() == ["ffmpeg"]


def test_trimmed(tmp_path):
    """Rows of a trimmed video count from its start; published windows see a file that holds nothing else."""
    path = make_video(tmp_path / "a.mp4", 8.0, video=BFRAMES)
    shard = decode(tmp_path, [path, path, path], start_s=[2.0, NAN, 2.5], end_s=[5.0, 3.0, NAN])
    np.testing.assert_array_equal(np.diff(shard["video/offsets"]), [3, 3, 5])
    rows = counters(shard)
    assert rows[:, 0].tolist() == [50, 75, 100, 0, 25, 50, 63, 88, 113, 138, 163]
    assert [second for second, _ in tones(shard, 44100)][:6] == [2, 3, 4, 0, 1, 2]
    windows = frozenset({"selavi_windows", "selavi_short"})
    published = decode(tmp_path, [path], published=windows, start_s=[2.0], end_s=[5.0])
    assert counters(published)[:, 0].tolist() == [50, 55]
    nothing = decode(tmp_path, [path], start_s=[9.0], end_s=[12.0])
    assert nothing["reason"].tolist() == ["too_short"]


def test_published_c3d_and_vggish(tmp_path):
    path = make_video(tmp_path / "a.mp4", 3.0)
    shard = decode(tmp_path, [path], SETS["c3d_vggish"], frozenset({"c3d_windows", "vggish_windows"}))
    assert counters({"video/frames": shard["video/frames"][:4]}).ravel().tolist() == list(range(64))
    assert shard["video/frames_valid"].tolist() == [16, 16, 16, 16, 11]
    assert not shard["video/frames"][4, 11:].any()
    np.testing.assert_allclose(shard["audio/start_s"], [0, 0.96, 1.92])
    np.testing.assert_allclose(shard["video/start_s"], np.arange(5) * 0.64)


def test_order_and_content_do_not_depend_on_the_number_of_processes(tmp_path, library, children):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    paths = [library("h264.mp4"), empty, library("bframes.mkv"), library("mjpeg.mov")]
    ids = []
    for processes in (1, 3):
        decode(tmp_path, paths, settings=DecodingSettings(processes=processes))
        ids.append(h5.facts(tmp_path / "decoded.h5")["content_sha256"])
    assert ids[0] == ids[1]
    assert [entry for entry in tmp_path.iterdir() if ".clips" in entry.name] == []


def test_a_shard_of_nothing_and_of_failures(tmp_path, library):
    assert decode(tmp_path, [])["video/frames"].shape == (0, 30, 112, 112, 3)
    shard = decode(tmp_path, [library("h264.mp4")] * 3, SETS["c3d_vggish"], status=["failed", "ok", "failed"],
                   reason=["network", "", "unavailable"], detail=["429", "", "gone"])
    assert shard["reason"].tolist() == ["network", "", "unavailable"]
    assert shard["detail"].tolist() == ["429", "", "gone"]
    assert shard["video/offsets"].tolist() == shard["audio/offsets"].tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize("change, message", [
    ({"backends": ("vlc",)}, r"\[decoding\] backends: found vlc, expected some of decord, pyav, ffmpeg"),
    ({"backends": ()}, r"\[decoding\] backends: found none"),
    ({"processes": 0}, r"\[decoding\] processes: found 0, expected 1 or more"),
    ({"memory_mb": 10}, r"\[decoding\] memory_mb: found 10, expected 512 or more"),
])
def test_settings_are_checked(change, message):
    with pytest.raises(SettingsError, match=message):
        DecodingSettings(**change)


REAL = {  # frames by PyAV, seconds that both streams fill
    "video_features__v_GGSY1Qvo990.mp4": (355, 18), "video_features__v_ZNVhz7ctTq0.mp4": (420, 14),
    "decord__flipping_a_pancake.mkv": (310, 10), "mmaction2__test.avi": (164, 6),
    "torchcodec__nasa_13013.mp4": (325, 13),
}


@pytest.mark.parametrize("name", REAL)
def test_real_videos(tmp_path, reference_data, name):
    """Frames and samples against PyAV's own decoding."""
    import av

    path = reference_data / "data" / "videos" / name
    shard = decode(tmp_path, [path])
    facts = probe(path)
    with av.open(str(path)) as container:
        pictures: list = list(container.decode(container.streams[facts.video_stream]))
        times = np.array([frame.time for frame in pictures]) - pictures[0].time
    if path.suffix == ".avi":  # its timestamps are garbage, its order is right
        times = np.arange(len(pictures)) / 25
    count, seconds = REAL[name]
    assert (len(pictures), len(shard["video/frames"])) == (count, seconds)
    for second, row in enumerate(shard["video/frames"]):
        native = np.flatnonzero((times > second - 1e-5) & (times < second + 1 - 1e-5))
        for slot in (0, 13, 29):
            index = native[slot * (len(native) - 1) // 29]
            expected = selavi_crop_uint8(pictures[index].to_ndarray(format="rgb24")[None])[0].astype(int)
            assert np.abs(row[slot] - expected).mean() < 4.0, (second, slot)
