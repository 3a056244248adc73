"""Readers of sound: the ffmpeg program, and PyAV where it dies."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.decode_pool import check_alive, piped
from pipeline.errors import VideoError
from pipeline.media import DAMAGE, MediaFacts, ffmpeg_command, ffmpeg_input, open_media
from pipeline.resampling import RawFile, resample_blocks
from pipeline.windows import SoundPlan

SOUND_BLOCK = 1 << 16
MAX_SOUND_S = 24 * 3600


def read_sound(
    path: Path, facts: MediaFacts, plan: SoundPlan, zero_s: float | None, cut_s: tuple[float, float], target: Path,
) -> tuple[int, float]:
    """Decode the first audio stream to ``target``, raw little-endian float32 at the plan's rate and scale.

    ``zero_s``: container time that becomes sample 0; gaps and a late start are filled with silence, what comes earlier
    is dropped (deviation ``audio_start`` corrected). None: the samples as they come (published).
    ``cut_s``: (start, end) in seconds from sample 0 on, nan for none.
    -> (samples, seconds decoded before the cut). Raises VideoError corrupt without any sample.
    """
    own_rate = plan.scale == "unit"
    rate = facts.audio_rate_hz if own_rate else plan.rate_hz
    channels = facts.audio_channels if own_rate else 1
    start = 0 if np.isnan(cut_s[0]) else round(max(cut_s[0], 0.0) * rate)
    stop = round((MAX_SOUND_S if np.isnan(cut_s[1]) else cut_s[1]) * rate)
    raw = target.with_suffix(".raw") if own_rate else target
    failures = []
    for reader in (ffmpeg_sound, pyav_sound):
        position = 0
        try:
            with raw.open("wb") as file, contextlib.closing(reader(path, facts, rate, channels, zero_s)) as blocks:
                for block in blocks:
                    part = block[max(start - position, 0):max(stop - position, 0)]
                    position += len(block)
                    file.write((part.mean(axis=1) / 32768.0 if own_rate else part[:, 0]).astype("<f4").tobytes())
                    if position >= stop:
                        break
            if position:
                break
            failures.append("no sample")
        except VideoError as error:
            failures.append(error.detail)
    else:
        raise VideoError("corrupt", f"{path}: its {facts.audio_codec} sound can't be decoded: {'; '.join(failures)}")
    samples = raw.stat().st_size // 4
    if own_rate:
        samples = resampled(raw, rate, plan.rate_hz, target)
        os.unlink(raw)
    return samples, min(position, stop) / rate


def ffmpeg_sound(
    path: Path, facts: MediaFacts, rate: int, channels: int, zero_s: float | None
) -> Generator[np.ndarray, None, None]:
    """Yield blocks (n, channels) int16 from the ffmpeg program. Raises VideoError if it dies."""
    with piped(sound_command(path, facts, rate, channels, zero_s)) as process:
        while data := process.stdout.read(SOUND_BLOCK * 2 * channels):
            yield np.frombuffer(data[:len(data) // (2 * channels) * (2 * channels)], "<i2").reshape(-1, channels)
        status = check_alive(process)
        if status < 0:
            raise VideoError("decoder_crashed", f"ffmpeg died of signal {-status}")


def pyav_sound(
    path: Path, facts: MediaFacts, rate: int, channels: int, zero_s: float | None
) -> Generator[np.ndarray, None, None]:
    """As ``ffmpeg_sound``, by PyAV and the same filters: for files that crash the ffmpeg program."""
    try:
        with open_media(path) as container:
            stream: Any = container.streams[facts.audio_stream]
            graph = av.filter.Graph()
            layout = "mono" if channels == 1 else stream.codec_context.layout.name
            steps = [("aformat", f"sample_fmts=s16:sample_rates={rate}:channel_layouts={layout}")]
            if zero_s is not None:
                steps[:0] = [("asetpts", f"PTS-({zero_s:.9f})/TB"), ("aresample", f"{rate}:async=1:first_pts=0")]
            graph.link_nodes(
                graph.add_abuffer(template=stream), *(graph.add(*step) for step in steps), graph.add("abuffersink")
            ).configure()
            for frame in itertools.chain(container.decode(stream), [None]):
                graph.push(frame)
                with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
                    while True:
                        yield graph.pull().to_ndarray().reshape(-1, channels)  # type: ignore[union-attr]
    except DAMAGE as error:
        raise VideoError("corrupt", f"pyav: {error}") from error


def sound_command(path: Path, facts: MediaFacts, rate: int, channels: int, zero_s: float | None) -> list[str]:
    """-> ffmpeg's argument vector for 16-bit samples on standard output."""
    clock = {} if zero_s is None else {"copyts": None}
    node = ffmpeg_input(path, **clock)[str(facts.audio_stream)]
    if zero_s is not None:
        node = node.filter("asetpts", f"PTS-({zero_s:.9f})/TB")
        node = node.filter("aresample", rate, **{"async": 1, "first_pts": 0})
    return ffmpeg_command(node.output("pipe:1", format="s16le", acodec="pcm_s16le", ac=channels, ar=rate))


def resampled(raw: Path, rate: int, target_rate: int, target: Path) -> int:
    """Resample a raw float32 file into another; -> samples written."""
    written = 0
    with target.open("wb") as file:
        for block in resample_blocks(RawFile(raw), rate, target_rate):
            file.write(block.astype("<f4").tobytes())
            written += len(block)
    return written
