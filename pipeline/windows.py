"""Clip plans: which frames and which samples of a video each extractor sees.

Time zero is the video's first timestamp (or where a trimmed video starts). A plan turns a ``Timeline`` and the length
of the sound into clips. The corrected plans take one clip of every second that both streams fill, starts 0, 1, 2, ...,
so that the audio and video rows of every extractor pair up; the published ones are tied to the released code.
A new extractor declares ``FramePlan`` and ``SoundPlan`` with ``EverySecond`` and needs no decoding code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.crops import c3d_crop, c3d_crop_of_negative, selavi_crop_uint8
from pipeline.errors import PipelineError, VideoError

EPSILON_S = 1e-6
SOUND_SLACK_S = 0.01
FRAME_SLACK_S = 0.02
PADDING = -1
C3D_RATE_HZ = 25
C3D_FRAMES = 16
SELAVI_FRAMES = 30
SELAVI_RATE_HZ = 44100
SELAVI_MINIMUM_S = 1.1
VGGISH_RATE_HZ = 16000
VGGISH_SAMPLES = 15600
VGGISH_HOP = 15360


@dataclass(frozen=True)
class Timeline:
    """When each frame is shown.

    ``times_s`` (frames,) float64: ascending, seconds from time zero. ``end_s``: end of the last frame. ``ticks``
    (frames,) int64: the stream's own timestamps, unshifted. ``fps``: average rate. ``header_frames`` and
    ``header_ticks``: what the container states (0: nothing).
    """

    times_s: np.ndarray
    end_s: float
    ticks: np.ndarray
    fps: float
    header_frames: int
    header_ticks: int

    def shown_at(self, seconds: np.ndarray) -> np.ndarray:
        """-> index of the frame on screen at each time; the first one before it starts."""
        return np.maximum(np.searchsorted(self.times_s, np.asarray(seconds) + EPSILON_S, side="right") - 1, 0)

    def between(self, start_s: float, stop_s: float) -> np.ndarray:
        """-> indices of the frames with start <= time < stop."""
        first, last = np.searchsorted(self.times_s, [start_s - EPSILON_S, stop_s - EPSILON_S])
        return np.arange(first, last)


@dataclass(frozen=True)
class FrameClips:
    """``start_s``, ``stop_s`` (clips,) float64; ``frames`` (clips, T) int64 index into the timeline, PADDING: zeros."""

    start_s: np.ndarray
    stop_s: np.ndarray
    frames: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """-> (clips,) int32: leading frames that are no padding."""
        return (self.frames != PADDING).sum(axis=1).astype(np.int32)


@dataclass(frozen=True)
class SoundClips:
    """``start_s``, ``stop_s`` (clips,) float64; ``first`` (clips,) int64: first sample, any
    part before zero or beyond the end is silence."""

    start_s: np.ndarray
    stop_s: np.ndarray
    first: np.ndarray


Published = frozenset


@dataclass(frozen=True)
class FramePlan:
    """What a video extractor sees: ``frames`` pictures a clip, each made by ``crop``: (N, H, W, 3) uint8 RGB ->
    (N, 112, 112, 3) uint8. ``windows``: (timeline, sound length in s, published) -> FrameClips.
    """

    name: str
    frames: int
    crop: Callable[[np.ndarray], np.ndarray]
    windows: Callable[[Timeline, float, Published], FrameClips]


@dataclass(frozen=True)
class SoundPlan:
    """What an audio extractor hears: ``samples`` a clip at ``rate_hz``, mono.

    ``scale``: ``int16`` (ffmpeg's down-mix and rate, values -32768..32767) or ``unit`` (mean of the channels at their
    own rate, the resampy 0.2.2 filter, values -1..1). ``windows``: (timeline, samples, published) -> SoundClips.
    """

    name: str
    samples: int
    rate_hz: int
    scale: str
    windows: Callable[[Timeline, int, Published], SoundClips]


def full_seconds(timeline: Timeline, sound_s: float) -> int:
    """-> number of seconds that pictures and sound both fill. Raises VideoError too_short if there is none.

    A stream may lack a hundredth of a second at its end (sound; it is made up with silence) or half a frame, at most a
    fiftieth (pictures): encoders round to frames and containers to milliseconds.
    """
    frame_slack = min(0.5 / timeline.fps, FRAME_SLACK_S) if timeline.fps > 0 else 0.0
    count = min(int(timeline.end_s + frame_slack + EPSILON_S), int(sound_s + SOUND_SLACK_S))
    if count < 1:
        raise VideoError(
            "too_short", f"{timeline.end_s:.2f} s of pictures, {sound_s:.2f} s of sound; expected a full second of both"
        )
    return count


def spread(count: int, frames: int) -> np.ndarray:
    """-> (frames,) int64: floor(j (count - 1) / (frames - 1)), even over ``count`` frames, first and last included."""
    return np.arange(frames) * (count - 1) // max(frames - 1, 1)


@dataclass(frozen=True)
class EverySecond:
    """One clip of every full second: ``frames`` spread over the second's native frames, or, with ``grid_hz``, over the
    pictures shown at each 1/grid_hz s: those at floor(grid_hz j / frames).
    """

    frames: int
    grid_hz: int = 0

    def __call__(self, timeline: Timeline, sound_s: float, published: Published = frozenset()) -> FrameClips:
        starts = np.arange(full_seconds(timeline, sound_s), dtype=np.float64)
        if self.grid_hz:
            steps = (self.grid_hz * np.arange(self.frames) // self.frames) / self.grid_hz
            return FrameClips(starts, starts + 1, timeline.shown_at(starts[:, None] + steps))
        rows = []
        for start in starts:
            native = timeline.between(start, start + 1)
            native = native if len(native) else timeline.shown_at(np.array([start]))
            rows.append(native[spread(len(native), self.frames)])
        return FrameClips(starts, starts + 1, np.array(rows, np.int64))


@dataclass(frozen=True)
class SoundEverySecond:
    """One clip of every full second: the ``samples`` from its start."""

    samples: int
    rate_hz: int

    def __call__(self, timeline: Timeline, samples: int, published: Published = frozenset()) -> SoundClips:
        starts = np.arange(full_seconds(timeline, samples / self.rate_hz), dtype=np.float64)
        return SoundClips(starts, starts + self.samples / self.rate_hz, (starts * self.rate_hz).astype(np.int64))


def selavi_length_check(timeline: Timeline, sound_s: float, published: Published) -> None:
    """Deviation ``selavi_short``: published drops videos under 2 s or with 1.1 s of sound or less, as the released
    code's filter does (it puts a random other video in their place, we record too_short)."""
    if "selavi_short" not in published:
        return
    # The released windows count the header's frames, and so drop a file whose header has none.
    frames = timeline.header_frames if "selavi_windows" in published else len(timeline.times_s)
    if published_selavi_count(frames, timeline.fps) < 1 or sound_s <= SELAVI_MINIMUM_S:
        raise VideoError(
            "too_short",
            f"{frames} frames at {timeline.fps:.2f} a second, {sound_s:.2f} s of sound; "
            "the published windows need 2 s of counted frames",
        )


def published_selavi_count(frames: int, fps: float) -> int:
    """-> int(frames / fps) - 1 clips, not below 0."""
    return max(int(frames / fps) - 1, 0) if fps > 0 else 0


def published_selavi_starts(frames: int, fps: float) -> np.ndarray:
    """-> (clips,) int64: the released code's first frame of each window, spaced (length - 1 s) / (10 (n // 10 + 1)).

    One window from the beginning where its count would be none (``selavi_short`` corrected).
    """
    count = published_selavi_count(frames, fps)
    divisor = (count // 10 + 1) * 1000
    reach = max(frames - fps, 0)
    return np.array([int(reach * (index * 100) / divisor) for index in range(max(count, 1))], np.int64)


def published_selavi_frames(timeline: Timeline) -> FrameClips:
    """The released windows: frames by header count and raw timestamps, 30 local indices floor(j (fps - 1) / 29).

    The stream's timestamps are taken as they are: one that does not start at zero shifts every window.
    """
    total = timeline.header_frames or len(timeline.times_s)
    per_frame = (timeline.header_ticks or int(timeline.ticks[-1] - timeline.ticks[0])) / total
    starts = published_selavi_starts(total, timeline.fps)
    local = np.floor(np.arange(SELAVI_FRAMES) * (timeline.fps - 1) / (SELAVI_FRAMES - 1)).astype(np.int64)
    rows = []
    for start in starts:
        low, high = int(start * per_frame), int((start + timeline.fps - 1) * per_frame)
        first = int(np.searchsorted(timeline.ticks, low, side="left"))
        last = min(int(np.searchsorted(timeline.ticks, high, side="right")) + 1, len(timeline.ticks))
        if last <= first:
            raise VideoError("too_short", f"no frame from {start / timeline.fps:.2f} s on, where a window starts")
        rows.append(first + np.clip(local, 0, last - first - 1))
    seconds = starts / timeline.fps
    return FrameClips(seconds, seconds + 1, np.array(rows, np.int64))


def selavi_frames(timeline: Timeline, sound_s: float, published: Published) -> FrameClips:
    """SeLaVi's 30 frames at the native rate (deviations ``selavi_windows``, ``selavi_short``)."""
    selavi_length_check(timeline, sound_s, published)
    if "selavi_windows" in published:
        return published_selavi_frames(timeline)
    return EverySecond(SELAVI_FRAMES)(timeline, sound_s)


def selavi_audio(timeline: Timeline, samples: int, published: Published) -> SoundClips:
    """SeLaVi's 44,100 samples. Published: from round(start / fps * 44100), moved back to fit the track's end."""
    sound_s = samples / SELAVI_RATE_HZ
    selavi_length_check(timeline, sound_s, published)
    if "selavi_windows" not in published:
        return SoundEverySecond(SELAVI_RATE_HZ, SELAVI_RATE_HZ)(timeline, samples)
    total = timeline.header_frames or len(timeline.times_s)
    seconds = published_selavi_starts(total, timeline.fps) / timeline.fps
    first = np.rint(seconds * SELAVI_RATE_HZ).astype(np.int64)
    first = np.where(first + SELAVI_RATE_HZ > samples, samples - SELAVI_RATE_HZ, first)
    if (first < 0).any():
        raise VideoError("too_short", f"{sound_s:.2f} s of sound; expected a full second")
    starts = first / SELAVI_RATE_HZ
    return SoundClips(starts, starts + 1, first)


def c3d_frames(timeline: Timeline, sound_s: float, published: Published) -> FrameClips:
    """C3D's 16 frames of the video as shown at 25 a second (deviation ``c3d_windows``).

    Published: consecutive groups of 16 from the beginning; the last one, if it has any frame, is padded.
    """
    if "c3d_windows" not in published:
        return EverySecond(C3D_FRAMES, C3D_RATE_HZ)(timeline, sound_s)
    count = int(np.ceil(timeline.end_s * C3D_RATE_HZ - 1e-3))
    if count < 1:
        raise VideoError("too_short", f"{timeline.end_s:.3f} s of pictures; expected a frame at 25 a second")
    clips = -(-count // C3D_FRAMES)
    frames = np.full(clips * C3D_FRAMES, PADDING, np.int64)
    frames[:count] = timeline.shown_at(np.arange(count) / C3D_RATE_HZ)
    starts = np.arange(clips) * C3D_FRAMES / C3D_RATE_HZ
    stops = np.minimum(starts + C3D_FRAMES / C3D_RATE_HZ, count / C3D_RATE_HZ)
    return FrameClips(starts, stops, frames.reshape(clips, C3D_FRAMES))


def vggish_audio(timeline: Timeline, samples: int, published: Published) -> SoundClips:
    """VGGish's 15,600 samples, 96 spectrogram frames (deviation ``vggish_windows``).

    Published: consecutive examples of 96 frames, 15,360 samples apart, whatever the pictures do.
    """
    if "vggish_windows" not in published:
        return SoundEverySecond(VGGISH_SAMPLES, VGGISH_RATE_HZ)(timeline, samples)
    count = (samples - VGGISH_SAMPLES) // VGGISH_HOP + 1 if samples >= VGGISH_SAMPLES else 0
    if count < 1:
        raise VideoError("too_short", f"{samples} samples at 16 kHz; expected {VGGISH_SAMPLES} (0.975 s)")
    first = np.arange(count, dtype=np.int64) * VGGISH_HOP
    starts = first / VGGISH_RATE_HZ
    return SoundClips(starts, starts + VGGISH_SAMPLES / VGGISH_RATE_HZ, first)


PLANS: dict[str, FramePlan | SoundPlan] = {plan.name: plan for plan in (
    FramePlan("selavi_frames", SELAVI_FRAMES, selavi_crop_uint8, selavi_frames),
    SoundPlan("selavi_audio", SELAVI_RATE_HZ, SELAVI_RATE_HZ, "int16", selavi_audio),
    FramePlan("c3d_frames", C3D_FRAMES, c3d_crop, c3d_frames),
    FramePlan("c3d_frames_negative", C3D_FRAMES, c3d_crop_of_negative, c3d_frames),
    SoundPlan("vggish_audio", VGGISH_SAMPLES, VGGISH_RATE_HZ, "unit", vggish_audio),
)}


def plans_of(video_plan: FramePlan | str, audio_plan: SoundPlan | str) -> tuple[FramePlan, SoundPlan]:
    """-> the two plans, looked up in PLANS where named. Raises PipelineError for an unknown or swapped name."""
    video = PLANS.get(video_plan) if isinstance(video_plan, str) else video_plan
    audio = PLANS.get(audio_plan) if isinstance(audio_plan, str) else audio_plan
    if not isinstance(video, FramePlan) or not isinstance(audio, SoundPlan):
        raise PipelineError(
            f"clip plans: found {video_plan!r} for pictures and {audio_plan!r} for sound, expected a FramePlan and a "
            f"SoundPlan; known: {', '.join(PLANS)}"
        )
    return video, audio
