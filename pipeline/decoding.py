"""Videos to a decoded shard: clips of pictures and sound as the extractors take them.

Each video goes through a child process (``decode_pool``): first its timestamps and its sound, from which the clip plans
follow, then its pictures, by the first backend that delivers every frame the plan asks for. A video that can't be used
is a row with a reason; a shard that can't be made is an exception.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import h5, schemas
from pipeline.clip_columns import ClipColumns, frame_blocks, sound_blocks
from pipeline.decode_pool import Call, Job, run
from pipeline.decoders import BACKENDS, Frames, cut, read_frames, read_timeline
from pipeline.errors import PipelineError, SettingsError, VideoError
from pipeline.media import MAX_PIXELS, MediaFacts, probe
from pipeline.progress import Progress
from pipeline.scratch import scratch_beside
from pipeline.sound import read_sound
from pipeline.windows import FrameClips, FramePlan, SoundClips, SoundPlan, plans_of

LONGEST_S = 4 * 3600.0
LEAST_BYTES_PER_S = 1000
USUAL_BYTES_PER_S = 10_000
TRUNCATION_SLACK_S = 0.5
TRUNCATION_SHARE = 0.02


@dataclass(frozen=True)
class DecodingSettings:
    """[decoding]. ``keep``: decoded shards stay after they are read; ``ahead``: shards that may exist at a time.

    ``backends``: picture readers in the order tried. ``processes``: child processes of one task. A video may take
    ``timeout_s`` + ``timeout_per_second`` times its length (of at most four hours) in all, what is left shared among
    the backends, and a child ``memory_mb`` of address space. ``max_pixels``: largest picture that is opened.
    """

    keep: bool = False
    ahead: int = 4
    backends: tuple[str, ...] = ("decord", "pyav", "ffmpeg")
    processes: int = 1
    timeout_s: float = 60.0
    timeout_per_second: float = 5.0
    memory_mb: int = 4096
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not self.backends or not set(self.backends) <= set(BACKENDS) or len(set(self.backends)) < len(self.backends):
            raise SettingsError(
                f"[decoding] backends: found {', '.join(self.backends) or 'none'}, "
                f"expected some of {', '.join(BACKENDS)}, each once"
            )
        for name, lowest in (("ahead", 1), ("processes", 1), ("timeout_s", 1), ("timeout_per_second", 0),
                             ("memory_mb", 512), ("max_pixels", 1)):
            if getattr(self, name) < lowest:
                raise SettingsError(f"[decoding] {name}: found {getattr(self, name)}, expected {lowest} or more")

    def content(self) -> dict[str, Any]:
        """-> the settings that can change what a decoded shard holds: part of its digest."""
        return {"backends": list(self.backends), "max_pixels": self.max_pixels}


@dataclass(frozen=True)
class Source:
    """One video of the acquired snapshot; ``start_s`` and ``end_s`` are nan where it is not trimmed."""

    id: str
    path: str
    start_s: float = float("nan")
    end_s: float = float("nan")
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Survey:
    """What the first pass over a video found: the clips, and where its pictures and sound are."""

    frames: Frames
    frame_clips: FrameClips
    sound_clips: SoundClips
    first_frame: int


@dataclass(frozen=True)
class Decoded:
    """One video's outcome. ``survey`` and ``folder`` (its raw files) only where ``reason`` is empty."""

    source: Source
    folder: Path
    reason: str = ""
    detail: str = ""
    backend: str = ""
    survey: Survey | None = field(default=None, repr=False)


def survey_video(
    source: Source, link: Path, facts: MediaFacts, plans: tuple[FramePlan, SoundPlan], published: frozenset[str],
    max_pixels: int,
) -> Survey:
    """Read a video's timestamps, decode its sound to ``link``'s folder and lay out the clips.

    Deviation ``edit_lists``: in both, frames that an edit list hides stay hidden, as the released readers' demuxer has
    it; published, the timestamps that the list leaves (an empty edit: a late start) shift SeLaVi's published windows,
    corrected, the first shown frame is time zero. Deviation ``audio_start``: see ``read_sound``.
    Runs in a child. Raises VideoError with any reason of decoding.
    """
    frame_plan, sound_plan = plans
    timeline, frames, first_s = read_timeline(link, facts, max_pixels)
    if "edit_lists" not in published:
        timeline = replace(timeline, ticks=timeline.ticks - timeline.ticks[0])
    check_length("pictures", timeline.end_s, stated_video_s(facts))
    zero_s = None if "audio_start" in published else first_s
    cut_s = (source.start_s, source.end_s)
    samples, decoded_s = read_sound(link, facts, sound_plan, zero_s, cut_s, link.parent / "sound")
    if np.isnan(source.end_s):
        check_sound_length(facts, decoded_s, zero_s)
        if not facts.duration_s:
            sound_end_s = decoded_s + (facts.audio_start_s if zero_s is None else zero_s)
            check_length("both streams", max(timeline.end_s + first_s, sound_end_s), facts.container_duration_s)
    shown, first_frame = cut(timeline, source.start_s, source.end_s)
    frame_clips = frame_plan.windows(shown, samples / sound_plan.rate_hz, published)
    sound_clips = sound_plan.windows(shown, samples, published)
    return Survey(frames, frame_clips, sound_clips, first_frame)


def stated_video_s(facts: MediaFacts) -> float:
    """-> length of the pictures by the headers, 0 where they do not say.

    In AVI that is the frame count: ffmpeg replaces the duration by a guess from what is there.
    """
    if facts.duration_s > 0 and facts.container != "avi":
        return facts.duration_s
    return facts.frames / facts.fps if facts.frames and facts.fps > 0 else 0.0


def check_length(what: str, found_s: float, stated_s: float) -> None:
    """Raise VideoError truncated if a stream ends more than half a second and a fiftieth before its stated length."""
    if found_s < stated_s * (1 - TRUNCATION_SHARE) - TRUNCATION_SLACK_S:
        raise VideoError("truncated", f"{found_s:.2f} s of {what}, the container states {stated_s:.2f} s")


def check_sound_length(facts: MediaFacts, decoded_s: float, zero_s: float | None) -> None:
    """As ``check_length``, for sound. Left out for AVI, whose header guesses the length of compressed sound."""
    if facts.container != "avi":
        late_s = 0.0 if zero_s is None else facts.audio_start_s - zero_s
        check_length("sound", decoded_s, facts.audio_duration_s + late_s)


def write_frames(backend: str, survey: Survey, plan: FramePlan, target: Path) -> None:
    """Decode the pictures of every clip with one backend, crop them, and write them to ``target``, raw uint8
    (clips, T, 112, 112, 3), zeros where the plan has padding. Runs in a child; raises VideoError."""
    slots = survey.frame_clips.frames
    flat = slots.ravel()
    places = np.flatnonzero(flat >= 0)
    places = places[np.argsort(flat[places], kind="stable")]
    wanted, begins = np.unique(flat[places], return_index=True)
    owners = np.split(places, begins[1:])
    size = 112 * 112 * 3
    with target.open("wb") as file:
        file.truncate(slots.size * size)
        reader = read_frames(backend, survey.frames, wanted + survey.first_frame)
        with contextlib.closing(reader):  # type: ignore[type-var]
            # The reader comes first, so that it is run to its end, where it may still find a frame missing.
            for (_, picture), owned in zip(reader, owners, strict=True):
                data = plan.crop(picture[None])[0].tobytes()
                for place in owned:
                    os.pwrite(file.fileno(), data, int(place) * size)


def decode_video(
    source: Source, folder: Path, plans: tuple[FramePlan, SoundPlan], settings: DecodingSettings,
    published: frozenset[str],
) -> Job:
    """The calls that one video needs, as a job of ``decode_pool``; -> Decoded."""
    if source.reason:
        return Decoded(source, folder, source.reason, source.detail)
    folder.mkdir()
    # One plain name for every reader: whatever the file is called, it is neither an option nor a pattern nor an URL.
    link = folder / "video"
    link.symlink_to(Path(source.path).absolute())
    end = time.monotonic() + settings.timeout_s
    try:
        facts = yield Call(probe, (link, settings.max_pixels), settings.timeout_s)
        end += settings.timeout_per_second * plausible_s(facts, link.stat().st_size)
        arguments = (source, link, facts, plans, published, settings.max_pixels)
        survey = yield Call(survey_video, arguments, max(end - time.monotonic(), 1.0))
    except VideoError as error:
        return Decoded(source, folder, error.reason, error.detail.replace(str(link), source.path))
    failures = []
    for number, backend in enumerate(settings.backends):
        share = max((end - time.monotonic()) / (len(settings.backends) - number), 1.0)
        try:
            yield Call(write_frames, (backend, survey, plans[0], folder / "frames"), share)
            return Decoded(source, folder, backend=backend, survey=survey)
        except VideoError as error:
            failures.append(error)
    return Decoded(source, folder, *summary(failures))


def plausible_s(facts: MediaFacts, size: int) -> float:
    """-> the length that a video's time limit goes by: what its headers state, if its ``size`` in bytes allows it."""
    stated = max(facts.duration_s, facts.audio_duration_s, facts.container_duration_s) or size / USUAL_BYTES_PER_S
    return min(stated, size / LEAST_BYTES_PER_S, LONGEST_S)


def summary(failures: list[VideoError]) -> tuple[str, str]:
    """-> (reason, detail) where every backend failed: hung or crashed only if all did."""
    reasons = {error.reason for error in failures}
    reason = reasons.pop() if len(reasons) == 1 else "corrupt"
    return reason, "; ".join(error.detail for error in failures)


def decode_shard(
    acquired_path: Path,
    shard: int,
    feature_set_plans: tuple[FramePlan | str, SoundPlan | str],
    settings: DecodingSettings,
    published: frozenset[str],
    output: h5.Output,
    label: str = "decode",
) -> None:
    """Decode the videos of one shard of an acquired snapshot (schemas.ACQUIRED) to schemas.DECODED.

    ``feature_set_plans``: (frame plan, sound plan), by name or as objects. Rows stand in the snapshot's order.
    Failed videos have a reason and no clips. Memory is bounded whatever the length of the videos; raw clips of the
    videos in work lie in a hidden folder beside the output. Raises PipelineError where a file is not there any more.
    """
    plans = plans_of(*feature_set_plans)
    sources = shard_sources(acquired_path, shard)
    check_present(sources)
    columns: dict[str, list] = {name: [] for name in ("id", "status", "reason", "detail", "backend")}
    clips = {"video": ClipColumns(), "audio": ClipColumns()}
    with scratch_beside(output.path) as scratch, output.create() as file, Progress(label, len(sources)) as progress:
        file.append("video/frames", np.zeros((0, plans[0].frames, 112, 112, 3), np.uint8))
        file.append("audio/samples", np.zeros((0, plans[1].samples), np.float32))
        jobs = [
            decode_video(source, scratch / str(number), plans, settings, published)
            for number, source in enumerate(sources)
        ]
        for decoded in run(jobs, settings.processes, settings.memory_mb):
            append_clips(file, decoded, plans, clips)
            shutil.rmtree(decoded.folder, ignore_errors=True)
            columns["id"].append(decoded.source.id)
            columns["status"].append("failed" if decoded.reason else "ok")
            columns["reason"].append(decoded.reason)
            columns["detail"].append(" ".join(decoded.detail.split()))
            columns["backend"].append(decoded.backend)
            progress.advance()
        for name, values in columns.items():
            file.write(name, values)
        for group, collected in clips.items():
            collected.write(file, group)
        valid = clips["video"].valid
        file.write("video/frames_valid", np.concatenate(valid) if valid else np.zeros(0, np.int32))
        file.attributes["frame_plan"] = plans[0].name
        file.attributes["sound_plan"] = plans[1].name
        file.attributes["audio_rate_hz"] = plans[1].rate_hz


def shard_sources(acquired_path: Path, shard: int) -> list[Source]:
    """-> the snapshot's videos of one shard, failed ones included, in its order."""
    with h5.read(acquired_path, schemas.ACQUIRED) as file:
        chosen = np.flatnonzero(file["shard"] == shard)
        names = ("id", "path", "start_s", "end_s", "status", "reason", "detail")
        columns = {name: file[name][chosen] for name in names}
    sources = []
    for row in range(len(chosen)):
        failed = columns["status"][row] != "ok"
        sources.append(Source(
            str(columns["id"][row]), str(columns["path"][row]), float(columns["start_s"][row]),
            float(columns["end_s"][row]), str(columns["reason"][row]) or "not_found" if failed else "",
            str(columns["detail"][row]) if failed else "",
        ))
    return sources


def check_present(sources: list[Source]) -> None:
    """Raise PipelineError if a file is gone since it was acquired: a disk that is away is no property of its videos."""
    gone = [source.path for source in sources if not source.reason and not Path(source.path).exists()]
    if gone:
        raise PipelineError(
            f"{gone[0]}: found no file where AcquireVideos saw one ({len(gone)} of {len(sources)} of this shard are "
            "gone), expected it there: put it back or mount its disk; if it is gone for good, run "
            "'python -m tasks remove AcquireVideos' and give the command again"
        )


def append_clips(
    file: h5.Writer, decoded: Decoded, plans: tuple[FramePlan, SoundPlan], clips: dict[str, ClipColumns]
) -> None:
    """Append one video's rows, in blocks."""
    survey = decoded.survey
    clips["video"].add(survey.frame_clips if survey else None)
    clips["audio"].add(survey.sound_clips if survey else None)
    if survey is None:
        return
    for block in frame_blocks(decoded.folder / "frames", len(survey.frame_clips.start_s), plans[0].frames):
        file.append("video/frames", block)
    for block in sound_blocks(decoded.folder / "sound", survey.sound_clips.first, plans[1].samples):
        file.append("audio/samples", block)
