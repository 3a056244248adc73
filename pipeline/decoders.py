"""Readers of pictures: three, which agree.

Frame i is the i-th in order of presentation. Its time comes from the container's timestamps, read without decoding;
in AVI, whose timestamps are those of decoding, from the i-th of them. decord goes by index alone (its timestamps are
zeroed, and garbage for MPEG-4 AVI with B frames) and in sequence, PyAV by timestamp, the ffmpeg pipe by counting.
Pictures are RGB in the stream's own colour matrix, turned upright by the display matrix, as decoded otherwise: pixel
shapes are not applied and fields are not separated, as in the published code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.decode_pool import check_alive, piped
from pipeline.errors import VideoError
from pipeline.media import (
    DAMAGE,
    MediaFacts,
    decoder_versions,
    ffmpeg_command,
    ffmpeg_input,
    is_unmistakable,
    open_media,
)
from pipeline.windows import Timeline

UPRIGHT = (1, 0, 0, 1)
DECORD_BATCH_BYTES = 32 << 20
SEEK_MARGIN_S = 3.0
FAR_FRAMES = 250


@dataclass(frozen=True)
class Frames:
    """The pictures of one stream: what a reader needs to hand out the i-th.

    ``ticks`` (frames,) int64: timestamps in order of presentation. ``by_ticks``: whether decoded frames carry them.
    ``discarded``: packets that an edit list hides. ``matrix``: signs a, b, c, d of the display matrix.
    """

    path: Path
    stream: int
    streams: int
    width: int
    height: int
    ticks: np.ndarray
    tick_s: float
    by_ticks: bool
    discarded: int
    matrix: tuple[int, int, int, int]
    max_pixels: int


def read_timeline(path: Path, facts: MediaFacts, max_pixels: int) -> tuple[Timeline, Frames, float]:
    """-> (Timeline from the first frame on, Frames, first timestamp in s), without decoding more than one frame.

    Raises VideoError corrupt if no packet of the video stream can be read.
    """
    stamps: list[tuple[int | None, int | None, int]] = []
    discarded = 0
    with open_media(path) as container:
        stream = container.streams[facts.video_stream]
        tick_s = float(stream.time_base) if stream.time_base else 0.0
        header_ticks = int(stream.duration or 0)
        with contextlib.suppress(*DAMAGE):
            for packet in container.demux(stream):
                if packet.size and packet.is_discard:
                    discarded += 1
                elif packet.size:
                    stamps.append((packet.pts, packet.dts, int(packet.duration or 0)))
    if not stamps:
        raise VideoError("corrupt", f"{path}: no packet in its video stream")
    ticks, by_ticks = presentation_ticks([s[0] for s in stamps], [s[1] for s in stamps], facts.container)
    if ticks is None or tick_s <= 0:
        if facts.fps <= 0:
            raise VideoError("corrupt", f"{path}: neither timestamps nor a frame rate")
        ticks, tick_s, by_ticks = np.arange(len(stamps)), 1 / facts.fps, False
    last = next((length for pts, _, length in reversed(stamps) if pts == ticks[-1] and length), 0)
    usual = int(np.median(np.diff(ticks))) if len(ticks) > 1 else 0
    last = last or usual or (round(1 / facts.fps / tick_s) if facts.fps > 0 else 0)
    first_s = float(ticks[0] * tick_s)
    times = (ticks - ticks[0]) * tick_s
    fps = facts.fps if facts.fps > 0 else len(ticks) / max(float(times[-1]) + last * tick_s, tick_s)
    timeline = Timeline(times, float(times[-1]) + last * tick_s, ticks, fps, facts.frames, header_ticks)
    matrix = read_matrix(path, facts.video_stream)
    frames = Frames(path, facts.video_stream, facts.video_streams, facts.width, facts.height, ticks, tick_s, by_ticks,
                    discarded, matrix, max_pixels)
    return timeline, frames, first_s


def presentation_ticks(pts: list, dts: list, container: str) -> tuple[np.ndarray | None, bool]:
    """-> (ascending timestamps of presentation or None, whether decoded frames carry them)."""
    missing = next((index for index, tick in enumerate(pts) if tick is not None), len(pts))
    known = pts[missing:]
    if container != "avi" and known and None not in known and len(set(known)) == len(known):
        ticks = np.sort(np.array(known, np.int64))
        # Matroska stores no time below zero: its readers give such frames none, and the rate goes on backwards.
        step = int(np.median(np.diff(ticks))) if missing and len(ticks) > 1 else 1
        return np.concatenate([ticks[0] - step * np.arange(missing, 0, -1), ticks]), missing == 0
    if None not in dts and len(set(dts)) == len(dts):
        return np.sort(np.array(dts, np.int64)), False
    return None, False


def read_matrix(path: Path, stream: int) -> tuple[int, int, int, int]:
    """-> signs (a, b, c, d) of the first frame's display matrix; (1, 0, 0, 1) without one, or with another angle."""
    with contextlib.suppress(*DAMAGE), open_media(path) as container:
        frame: Any = next(iter(container.decode(container.streams[stream])))
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is not None:
            a, b, c, d = (int(sign) for sign in np.sign(np.frombuffer(bytes(data), "<i4")[[0, 1, 3, 4]]))
            if abs(a * d - b * c) == 1 and a * b == c * d == 0:
                return a, b, c, d
    return UPRIGHT


def upright(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """(H, W, 3) -> the picture with the display matrix applied: column' = a x + c y, row' = b x + d y."""
    a, b, c, d = matrix
    if a == 0:
        picture = picture.transpose(1, 0, 2)
        a, d = c, b
    return picture[::d, ::a] if (a, d) != (1, 1) else picture


def cut(timeline: Timeline, start_s: float, end_s: float) -> tuple[Timeline, int]:
    """-> (the part of the timeline in [start, end), as if the file held nothing else; index of its first frame).

    nan: from the beginning, to the end. Raises VideoError too_short if no frame is left.
    """
    if np.isnan(start_s) and np.isnan(end_s):
        return timeline, 0
    start = 0.0 if np.isnan(start_s) else max(start_s, 0.0)
    end = timeline.end_s if np.isnan(end_s) else min(end_s, timeline.end_s)
    kept = timeline.between(start, end)
    if not len(kept):
        raise VideoError("too_short", f"no frame from {start:.2f} s to {end:.2f} s of {timeline.end_s:.2f} s")
    first = int(kept[0])
    ticks = timeline.ticks[kept] - timeline.ticks[first]
    per_tick = (timeline.ticks[-1] - timeline.ticks[0]) / max(timeline.times_s[-1], 1e-9)
    return replace(
        timeline, times_s=timeline.times_s[kept] - start, end_s=end - start, ticks=ticks,
        header_frames=len(kept), header_ticks=int(round((end - start) * per_tick)),
    ), first


def decord_frames(frames: Frames, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, upright RGB) of the wanted frames, by decord.

    It opens what its own libavformat takes a file for, playlists included: only files that can't be one.
    """
    import decord

    if not is_unmistakable(frames.path):
        raise VideoError("corrupt", "decord: not for a file whose head does not say what it is")
    a, b, c, d = frames.matrix
    if frames.discarded or frames.streams > 1 or a * d - b * c < 0:
        raise VideoError("corrupt", "decord: not for edit lists that hide frames, several video streams or mirrors")
    if wanted[0] > FAR_FRAMES:
        raise VideoError("corrupt", f"decord: not for a start at frame {wanted[0]}, it would decode all before it")
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(frames.path), ctx=decord.cpu(0), num_threads=1)
        if len(reader) != len(frames.ticks):
            raise VideoError("corrupt", f"decord counts {len(reader)} frames, the container {len(frames.ticks)}")
        size = max(1, DECORD_BATCH_BYTES // (frames.width * frames.height * 3))
        # Every frame from the first on: where it skips or seeks, it goes by timestamps and key frames, and is a frame
        # or two off with open groups of pictures and in MPEG-4 AVI.
        for start in range(0, int(wanted[-1]) + 1, size):
            stop = min(start + size, int(wanted[-1]) + 1)
            pictures = reader.get_batch(list(range(start, stop))).asnumpy()
            check_size(frames, *(pictures.shape[1:3] if a else pictures.shape[2:0:-1]))
            for index in wanted[(wanted >= start) & (wanted < stop)].tolist():
                yield index, pictures[index - start]
    except (decord.DECORDError, RuntimeError) as error:  # it raises the latter for a file that it can't open
        raise VideoError("corrupt", f"decord: {str(error).strip().splitlines()[-1][:200]}") from error


def pyav_frames(frames: Frames, wanted: np.ndarray, seek: bool = True) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, upright RGB) of the wanted frames, by PyAV."""
    places = {int(tick): index for index, tick in enumerate(frames.ticks)} if frames.by_ticks else None
    pending = set(wanted.tolist())
    margin = int(SEEK_MARGIN_S / frames.tick_s)
    target = int(frames.ticks[wanted[0]]) - margin
    seek = seek and places is not None and target > frames.ticks[0] + margin
    try:
        with open_media(frames.path) as container:
            stream: Any = container.streams[frames.stream]
            stream.codec_context.thread_count = 1
            if seek:
                container.seek(target, stream=stream)
            convert: Any = None
            for position, frame in enumerate(container.decode(stream)):
                index = position if places is None else places.get(frame.pts, -1)
                if seek and position == 0 and not 0 <= index <= wanted[0]:
                    break
                if index in pending:
                    check_size(frames, frame.height, frame.width)
                    convert = convert or rgb_converter(stream)
                    pending.remove(index)
                    yield index, upright(convert(frame), frames.matrix)
                    if not pending:
                        return
    except DAMAGE as error:
        raise VideoError("corrupt", f"pyav: {error}") from error
    if seek and len(pending) == len(wanted):
        yield from pyav_frames(frames, wanted, seek=False)


def rgb_converter(stream: Any) -> Any:
    """-> function from a PyAV frame to (H, W, 3) uint8 RGB by ffmpeg's scaler, which goes by the stream's colour tags
    (PyAV's own conversion ignores them)."""
    graph = av.filter.Graph()
    source, scale, layout, sink = (graph.add_buffer(template=stream), graph.add("scale", "flags=bicubic"),
                                   graph.add("format", "rgb24"), graph.add("buffersink"))
    source.link_to(scale)
    scale.link_to(layout)
    layout.link_to(sink)
    graph.configure()

    def convert(frame: Any) -> np.ndarray:
        graph.push(frame)
        return graph.pull().to_ndarray()

    return convert


def ffmpeg_frames(frames: Frames, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, upright RGB) of the wanted frames, through a pipe from the ffmpeg program.

    It counts, so it decodes to the end: a frame that can't be decoded is left out, which moves those after it.
    """
    node = ffmpeg_input(frames.path, noautorotate=None, max_pixels=frames.max_pixels)
    node = node[str(frames.stream)].output("pipe:1", format="rawvideo", pix_fmt="rgb24", **every_frame())
    pending = set(wanted.tolist())
    size = frames.width * frames.height * 3
    with piped(ffmpeg_command(node)) as process:
        for index in range(len(frames.ticks)):
            data = process.stdout.read(size)
            if len(data) < size:
                check_alive(process)
                raise VideoError("corrupt", f"ffmpeg: {index} of {len(frames.ticks)} frames can be decoded")
            if index in pending:
                picture = np.frombuffer(data, np.uint8).reshape(frames.height, frames.width, 3)
                yield index, upright(picture, frames.matrix)


def every_frame() -> dict[str, str]:
    """-> output option that keeps every decoded frame as it is; its name changed with ffmpeg 5.1."""
    major = decoder_versions()["ffmpeg"].split(".")[0]
    return {"vsync": "passthrough"} if major.isdigit() and int(major) < 6 else {"fps_mode": "passthrough"}


BACKENDS: dict[str, Callable[[Frames, np.ndarray], Iterator[tuple[int, np.ndarray]]]] = {
    "decord": decord_frames, "pyav": pyav_frames, "ffmpeg": ffmpeg_frames,
}


def read_frames(backend: str, frames: Frames, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, (H, W, 3) uint8 RGB, upright) for every index of ``wanted`` (ascending, unique), in that order.

    Raises VideoError corrupt if this backend does not deliver one of them.
    """
    expected = iter(wanted.tolist())
    for index, picture in BACKENDS[backend](frames, wanted):
        due = next(expected)
        if index != due:
            raise VideoError("corrupt", f"{backend}: frame {due} of {len(frames.ticks)} can't be decoded")
        yield index, picture
    missing = next(expected, None)
    if missing is not None:
        raise VideoError("corrupt", f"{backend}: decoding ends before frame {missing} of {len(frames.ticks)}")


def check_size(frames: Frames, height: int, width: int) -> None:
    if (width, height) != (frames.width, frames.height):
        found, stated = f"{width}x{height}", f"{frames.width}x{frames.height}"
        raise VideoError("corrupt", f"a picture of {found} in a stream of {stated}")
