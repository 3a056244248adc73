"""Media files from outside: which ffmpeg reads them, how it is called, and what a file holds.

A file is untrusted. It is opened by an absolute local path, with the local file protocol alone and with containers of
video alone, so that a playlist is not media and is never followed; and never through a shell.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np
from av.container import InputContainer
from av.stream import Disposition

from pipeline.errors import PipelineError, VideoError

# Containers that hold their own data. Left out on purpose: playlists, concatenations, scripts, picture sequences.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,asf,ogg"
PROTOCOLS = "file,pipe"
STILL_CODECS = {"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000"}
ENCRYPTED_TAGS = {"encv", "enca", "drmi", "drms"}
MAX_PIXELS = 7680 * 4320
SIGNATURES = ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (0, b"RIFF"), (0, b"\x1aE\xdf\xa3"),
              (0, b"FLV\x01"), (0, b"OggS"), (0, b"\x00\x00\x01\xba"), (0, b"0&\xb2u\x8ef\xcf\x11"))
# Heads that no reader can take for text, and so for a playlist; in the order MP4, AVI, Matroska, FLV, Ogg.
UNMISTAKABLE = re.compile(
    rb"\0...(ftyp|moov|mdat|wide|free|skip)|RIFF....AVI |\x1aE\xdf\xa3.{1,60}(matroska|webm)|FLV\x01|OggS\0", re.DOTALL
)
# What PyAV raises over damaged content.
DAMAGE = (av.error.FFmpegError, StopIteration, ValueError, IndexError, OverflowError, ZeroDivisionError)
PROBE_COLUMNS = (
    "video_codec", "audio_codec", "width", "height", "fps", "frames", "duration_s", "audio_rate_hz", "audio_channels",
    "audio_duration_s", "video_start_s", "audio_start_s",
)


@dataclass(frozen=True)
class MediaFacts:
    """What a file's headers say of its first real video stream and its first audio stream.

    The fields of PROBE_COLUMNS are the columns of ``schemas.ACQUIRED``. Sizes are as stored, before any rotation;
    pixel shapes are never applied. ``frames`` and the durations are the header's, 0 where it has none; start times
    count from the container's zero.
    """

    video_codec: str
    audio_codec: str
    width: int
    height: int
    fps: float
    frames: int
    duration_s: float
    audio_rate_hz: int
    audio_channels: int
    audio_duration_s: float
    video_start_s: float
    audio_start_s: float
    container: str
    container_duration_s: float
    video_stream: int
    audio_stream: int
    video_streams: int

    def columns(self) -> dict[str, Any]:
        """-> the probe columns of ``schemas.ACQUIRED``, by name."""
        return {name: getattr(self, name) for name in PROBE_COLUMNS}


@functools.cache
def ffmpeg_path() -> str:
    """-> the ffmpeg program: the one on PATH, else the one that comes with imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise PipelineError(
            "ffmpeg: found neither a program of that name on PATH nor the one of imageio-ffmpeg; install ffmpeg"
        ) from error


@functools.cache
def decoder_versions() -> dict[str, str]:
    """-> versions of all that turns bytes into pictures and samples; part of a decoded shard's digest."""
    from importlib.metadata import version

    done = subprocess.run([ffmpeg_path(), "-hide_banner", "-version"], capture_output=True, text=True, timeout=60)
    libraries = " ".join(f"{name} {'.'.join(map(str, number))}" for name, number in sorted(av.library_versions.items()))
    return {
        "ffmpeg": done.stdout.splitlines()[0].removeprefix("ffmpeg version ").split(" Copyright")[0],
        "av": f"{av.__version__} ({libraries})",
        "decord": version("decord"),
        "pillow": version("pillow"),
        "numpy": np.__version__,
    }


def ffmpeg_input(path: Path, **options: Any) -> Any:
    """-> ffmpeg-python input node for an untrusted local file."""
    safe = {"protocol_whitelist": PROTOCOLS, "format_whitelist": CONTAINERS, "threads": 1}
    return ffmpeg.input("file:" + str(path.absolute()), **safe, **options)


def ffmpeg_command(node: Any) -> list[str]:
    """-> argument vector of an ffmpeg-python graph; standard input closed, errors only."""
    return ffmpeg.compile(node.global_args("-nostdin", "-hide_banner", "-loglevel", "error"), cmd=ffmpeg_path())


def open_media(path: Path) -> InputContainer:
    """-> PyAV container of an untrusted local file, to be used in ``with``. Raises VideoError (see ``sniff``)."""
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": CONTAINERS}
    try:
        return av.open("file:" + str(path.absolute()), container_options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise VideoError(*sniff(path, error)) from error


def is_unmistakable(path: Path) -> bool:
    """-> whether a file begins as its container alone does: a reader that can't be kept from playlists may have it."""
    with path.open("rb") as file:
        return UNMISTAKABLE.match(file.read(80)) is not None


def sniff(path: Path, error: Exception) -> tuple[str, str]:
    """-> (reason, detail) for a file that no demuxer opens."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as failure:
        return "not_found", f"{path}: {failure.strerror}"
    if size == 0:
        return "empty", f"{path} has no bytes"
    if not any(head[at:at + len(mark)] == mark for at, mark in SIGNATURES):
        return "not_media", f"{path} starts with {head!r}: no video container"
    if ends_early(path, size):
        return "truncated", f"{path}: its parts reach beyond its {size} bytes"
    return "corrupt", f"{path}: {error}"


def ends_early(path: Path, size: int) -> bool:
    """-> whether the sizes that an MP4's boxes or a RIFF header state reach beyond the end of the file."""
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] == b"RIFF" and len(head) == 8:
            return struct.unpack("<I", head[4:])[0] + 8 > size
        if not any(head[4:] == mark for at, mark in SIGNATURES if at == 4):
            return size < 1024
        position = 0
        while position < size:
            file.seek(position)
            box = file.read(16)
            if len(box) < 8:
                return True
            length = struct.unpack(">I", box[:4])[0]
            if length == 1 and len(box) == 16:
                length = struct.unpack(">Q", box[8:])[0]
            if length == 0:
                return False
            if length < 8:
                return False
            position += length
    return position > size


def probe(path: Path, max_pixels: int = MAX_PIXELS) -> MediaFacts:
    """-> MediaFacts of a local file.

    Raises VideoError: not_found, empty, not_media, truncated, corrupt, no_video, no_audio, encrypted, too_large.
    It reads headers and the first packets in this process: use ``decode_pool`` where a file may crash or hang it.
    """
    path = Path(path)
    if not path.is_file():
        raise VideoError("not_found", f"{path}: no such file")
    if path.stat().st_size == 0:
        raise VideoError("empty", f"{path} has no bytes")
    with contextlib.closing(open_media(path)) as container:
        try:
            return read_facts(container, path, max_pixels)
        except DAMAGE as error:
            raise VideoError("corrupt", f"{path}: {error}") from error


def read_facts(container: InputContainer, path: Path, max_pixels: int) -> MediaFacts:
    """-> MediaFacts of an open container. Errors as in ``probe``."""
    moving = [stream for stream in container.streams.video if not is_still(stream)]
    if not moving:
        stills = len(container.streams.video)
        raise VideoError("no_video", f"{path}: {stills} still pictures and no video stream" if stills else
                         f"{path}: no video stream")
    if not container.streams.audio:
        raise VideoError("no_audio", f"{path}: no audio stream")
    # A cover may not be marked as one, and Matroska counts no frames: what can't be a still picture comes first.
    video, audio = min(moving, key=could_be_still), container.streams.audio[0]
    for stream in (video, audio):
        if codec_tag(stream) in ENCRYPTED_TAGS:
            raise VideoError("encrypted", f"{path}: stream {stream.index} is encrypted ({codec_tag(stream)})")
        if getattr(stream, "codec_context", None) is None:
            raise VideoError("corrupt", f"{path}: stream {stream.index} has no codec that can be read")
    width, height = video.codec_context.width, video.codec_context.height
    if width * height > max_pixels:
        raise VideoError("too_large", f"{path}: {width}x{height} pixels, at most {max_pixels} in all are opened")
    if width < 1 or height < 1:
        raise VideoError("corrupt", f"{path}: a picture of {width}x{height} pixels")
    if not audio.codec_context.sample_rate or not audio.codec_context.channels:
        raise VideoError("corrupt", f"{path}: audio without a sample rate or channels")
    if is_encrypted(container):
        raise VideoError("encrypted", f"{path}: its packets are encrypted")
    return MediaFacts(
        video_codec=video.codec_context.name,
        audio_codec=audio.codec_context.name,
        width=width,
        height=height,
        fps=float(video.average_rate or video.guessed_rate or 0),
        frames=max(int(video.frames), 0),
        duration_s=stream_seconds(video, "duration") or tagged_seconds(video),
        audio_rate_hz=int(audio.codec_context.sample_rate),
        audio_channels=int(audio.codec_context.channels),
        audio_duration_s=stream_seconds(audio, "duration") or tagged_seconds(audio),
        video_start_s=stream_seconds(video, "start_time"),
        audio_start_s=stream_seconds(audio, "start_time"),
        container=container.format.name.split(",")[0],
        container_duration_s=max((container.duration or 0) / av.time_base, 0.0),
        video_stream=video.index,
        audio_stream=audio.index,
        video_streams=len(container.streams.video),
    )


def is_still(stream: Any) -> bool:
    """-> whether a video stream is a cover picture, marked as one or not."""
    if stream.disposition & Disposition.attached_pic:
        return True
    return could_be_still(stream) and stream.frames == 1


def could_be_still(stream: Any) -> bool:
    context = getattr(stream, "codec_context", None)
    return context is not None and context.name in STILL_CODECS


def is_encrypted(container: InputContainer) -> bool:
    """-> whether the first packet carries a key's id."""
    return next(iter(container.demux())).has_sidedata("encryption_info")


def codec_tag(stream: Any) -> str:
    """-> four-letter tag of a stream's sample entry, empty if it has none."""
    context = getattr(stream, "codec_context", None)
    return str(getattr(context, "codec_tag", "") or "")


def stream_seconds(stream: Any, name: str) -> float:
    """-> a stream's ``duration`` or ``start_time`` in seconds, 0 where the header has none."""
    ticks = getattr(stream, name)
    return 0.0 if ticks is None or stream.time_base is None else float(ticks * stream.time_base)


def tagged_seconds(stream: Any) -> float:
    """-> a stream's length by Matroska's tag, which states its end; 0 without one."""
    for name, text in stream.metadata.items():
        match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text) if name.split("-")[0] == "DURATION" else None
        if match:
            end = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
            return max(end - max(stream_seconds(stream, "start_time"), 0.0), 0.0)
    return 0.0
