"""Clip plans: the published windows to the index, the corrected ones second by second, each deviation alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError, VideoError
from pipeline.windows import (
    PADDING,
    PLANS,
    EverySecond,
    FramePlan,
    SoundEverySecond,
    Timeline,
    c3d_frames,
    full_seconds,
    plans_of,
    published_selavi_count,
    selavi_audio,
    selavi_frames,
    vggish_audio,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "extractors" / "set_a"
SELAVI_PUBLISHED = frozenset({"selavi_windows", "selavi_short"})
NONE: frozenset[str] = frozenset()
SOUNDS = (("selavi_audio", 441000), ("vggish_audio", 160000))


def golden(name: str):
    return np.load(GOLDEN / f"{name}.npz")


def cases(name: str) -> list[str]:
    return sorted({key.split("/")[0] for key in golden(name).files if key.count("_")})


def steady(frames: int, fps: float, tick: int = 1, header: bool = True) -> Timeline:
    count = frames if header else 0
    return Timeline(np.arange(frames) / fps, frames / fps, np.arange(frames) * tick, fps, count, count * tick)


@pytest.mark.parametrize("name", cases("selavi_windows"))
def test_published_selavi_windows(name):
    frames, rate, tick = name.split("_")
    top, _, bottom = rate.removeprefix("fps").partition("over")
    timeline = steady(int(frames[1:]), int(top) / int(bottom or 1), int(tick[4:]))
    expected = golden("selavi_windows")
    if not len(expected[f"{name}/frame_index"]):
        with pytest.raises(VideoError, match="too_short: 49 frames at 25.00 a second.* 2 s of counted frames"):
            selavi_frames(timeline, timeline.end_s, SELAVI_PUBLISHED)
        return
    clips = selavi_frames(timeline, timeline.end_s, SELAVI_PUBLISHED)
    np.testing.assert_array_equal(clips.frames, expected[f"{name}/frame_index"])
    np.testing.assert_allclose(clips.start_s, expected[f"{name}/start_frame"] / timeline.fps)
    assert (clips.valid == 30).all() and clips.valid.dtype == np.int32
    sound = selavi_audio(timeline, 10_000_000, SELAVI_PUBLISHED)
    np.testing.assert_array_equal(sound.first, expected[f"{name}/audio_start_sample_44100"])


def test_published_vggish_example_counts():
    expected = golden("vggish_pre")
    for samples, count in zip(expected["edge/n_samples_16k"], expected["edge/n_examples"], strict=True):
        if count:
            clips = vggish_audio(steady(250, 25), int(samples), frozenset({"vggish_windows"}))
            np.testing.assert_array_equal(clips.first, np.arange(count) * 15360)
        else:
            with pytest.raises(VideoError, match="too_short: .* samples at 16 kHz; expected 15600"):
                vggish_audio(steady(250, 25), int(samples), frozenset({"vggish_windows"}))


@pytest.mark.parametrize("rate", [15, 19.62, 24000 / 1001, 25, 30000 / 1001, 30, 60])
def test_corrected_clips_are_seconds_and_pair_up(rate):
    timeline = steady(round(10 * rate), rate)
    pictures = [PLANS[name].windows(timeline, 10.0, NONE) for name in ("selavi_frames", "c3d_frames")]
    sounds = [PLANS[name].windows(timeline, samples, NONE) for name, samples in SOUNDS]
    for clips in [*pictures, *sounds]:
        np.testing.assert_array_equal(clips.start_s, np.arange(10))
    np.testing.assert_array_equal(sounds[0].first, np.arange(10) * 44100)
    np.testing.assert_array_equal(sounds[1].first, np.arange(10) * 16000)
    for clip, row in enumerate(pictures[0].frames):
        native = np.flatnonzero((timeline.times_s >= clip - 1e-6) & (timeline.times_s < clip + 1 - 1e-6))
        np.testing.assert_array_equal(row, native[np.arange(30) * (len(native) - 1) // 29])
    for clip, row in enumerate(pictures[1].frames):
        for j, index in enumerate(row):
            moment = clip + (25 * j // 16) / 25 + 1e-6
            assert timeline.times_s[index] <= moment
            assert index + 1 == len(timeline.times_s) or timeline.times_s[index + 1] > moment


def test_25_a_second_is_frame_by_frame():
    timeline = steady(100, 25)
    np.testing.assert_array_equal(c3d_frames(timeline, 4.0, NONE).frames[2], 50 + 25 * np.arange(16) // 16)
    published = c3d_frames(timeline, 4.0, frozenset({"c3d_windows"}))
    np.testing.assert_array_equal(published.frames.ravel()[:100], np.arange(100))
    assert (published.frames.ravel()[100:] == PADDING).all()
    np.testing.assert_array_equal(published.valid, [16] * 6 + [4])
    np.testing.assert_allclose(published.start_s, np.arange(7) * 0.64)
    assert published.stop_s[-1] == 4.0


def test_frames_go_by_time_where_the_rate_varies():
    """Half a second at 10 a second, then a still of two seconds, then 20 a second."""
    times = np.concatenate([np.arange(5) / 10, [0.5], 2.5 + np.arange(20) / 20])
    timeline = Timeline(times, 3.5, (times * 1000).astype(np.int64), 26 / 3.5, 0, 0)
    clips = EverySecond(30)(timeline, 4.0)
    assert len(clips.frames) == 3
    assert set(clips.frames[0]) == {0, 1, 2, 3, 4, 5}
    assert set(clips.frames[1]) == {5}, "nothing new in that second: what is on the screen"
    assert set(clips.frames[2]) == set(range(6, 16))
    np.testing.assert_array_equal(EverySecond(4, grid_hz=25)(timeline, 4.0).frames[2], [5, 5, 5, 10])


@pytest.mark.parametrize("end_s, sound_s, seconds", [
    (10.0, 10.0, 10), (10.0, 9.97, 9), (10.0, 9.995, 10), (9.985, 12.0, 10), (9.9, 12.0, 9), (3.0, 60.0, 3),
])
def test_full_seconds_are_those_of_both_streams(end_s, sound_s, seconds):
    timeline = Timeline(np.arange(250) / 25, end_s, np.arange(250), 25.0, 250, 250)
    assert full_seconds(timeline, sound_s) == seconds


def test_under_a_second_is_too_short():
    with pytest.raises(VideoError, match="too_short: 0.80 s of pictures, 5.00 s of sound; expected a full second"):
        selavi_frames(steady(20, 25), 5.0, NONE)
    with pytest.raises(VideoError, match="too_short: 2.00 s of pictures, 0.50 s of sound"):
        vggish_audio(steady(50, 25), 8000, NONE)


def test_selavi_short_alone():
    timeline = steady(45, 25)
    assert len(selavi_frames(timeline, 1.8, NONE).frames) == 1
    with pytest.raises(VideoError, match="too_short"):
        selavi_frames(timeline, 1.8, frozenset({"selavi_short"}))
    with pytest.raises(VideoError, match="too_short"):
        selavi_audio(steady(100, 25), 44100, frozenset({"selavi_short"}))
    assert len(selavi_frames(timeline, 1.8, frozenset({"selavi_windows"})).frames) == 1


def test_selavi_windows_alone():
    timeline = steady(250, 25)
    assert len(selavi_frames(timeline, 10.0, NONE).frames) == 10
    published = selavi_frames(timeline, 10.0, frozenset({"selavi_windows"}))
    sound = selavi_audio(timeline, 441000, frozenset({"selavi_windows"}))
    np.testing.assert_allclose(published.start_s, np.floor(np.arange(9) * 22.5) / 25)
    np.testing.assert_allclose(sound.start_s, published.start_s, atol=1e-4)


def test_published_windows_need_the_headers_count():
    """The released code takes it from the container; many webm and mkv files have none."""
    with pytest.raises(VideoError, match="too_short: 0 frames"):
        selavi_frames(steady(250, 25, header=False), 10.0, SELAVI_PUBLISHED)
    assert len(selavi_frames(steady(250, 25, header=False), 10.0, frozenset({"selavi_windows"})).frames) == 9


def test_published_windows_at_the_end():
    """The last window moves back where the sound ends early; raw timestamps that start late shift the frames."""
    timeline = steady(250, 25)
    sound = selavi_audio(timeline, 5 * 44100, SELAVI_PUBLISHED)
    assert sound.first.max() == 4 * 44100
    late = Timeline(timeline.times_s, 10.0, timeline.ticks + 25, 25.0, 250, 250)
    assert selavi_frames(late, 10.0, SELAVI_PUBLISHED).frames[4][0] == selavi_frames(
        timeline, 10.0, SELAVI_PUBLISHED).frames[4][0] - 25
    with pytest.raises(VideoError, match="too_short: 0.80 s of sound; expected a full second"):
        selavi_audio(timeline, 35280, frozenset({"selavi_windows"}))


def test_odd_rates_do_not_break_the_published_count():
    assert published_selavi_count(0, 25.0) == published_selavi_count(10, 0.0) == 0


def test_a_new_plan_needs_no_new_code():
    plan = FramePlan("eight", 8, lambda frames: frames[:, :112, :112], EverySecond(8))
    video, audio = plans_of(plan, "vggish_audio")
    assert video.windows(steady(50, 25), 2.0, NONE).frames.shape == (2, 8)
    assert SoundEverySecond(8000, 8000)(steady(50, 25), 16000).first.tolist() == [0, 8000]
    assert audio.samples == 15600


def test_plans_are_named():
    with pytest.raises(PipelineError, match="found 'selavi' for pictures and 'selavi_audio' for sound"):
        plans_of("selavi", "selavi_audio")
    with pytest.raises(PipelineError, match="expected a FramePlan and a SoundPlan; known: selavi_frames"):
        plans_of("selavi_audio", "selavi_frames")
