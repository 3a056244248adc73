"""Makers of small inputs with known content, shared by tests and benchmarks.

Counted videos: every picture carries its own number, every second of sound its own tone, so that a test can say which
frame and which instant it was handed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline import h5, schemas
from pipeline.media import ffmpeg_path

CODE_BITS = 12
CORNERS = {(0, 0): (220, 30, 30), (0, 3): (30, 200, 30), (3, 0): (40, 40, 220), (3, 3): (200, 200, 200)}
TONE_START_S = 0.25
TONE_LENGTH_S = 0.05


def counted_picture(number: int, height: int = 120, width: int = 160) -> np.ndarray:
    """-> (H, W, 3) uint8 RGB: in the central square 4 x 4 blocks; the corners are red, green, blue and grey (which is
    up, which channel is which), the other twelve the bits of ``number``, highest first, white on black.
    """
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    picture = np.full((height, width, 3), 90, np.uint8)
    edges = [round(k * side / 4) for k in range(5)]
    bit = CODE_BITS
    for row in range(4):
        for column in range(4):
            colour: tuple[int, int, int] | int | None = CORNERS.get((row, column))
            if colour is None:
                bit -= 1
                colour = 235 if number >> bit & 1 else 20
            picture[top + edges[row]:top + edges[row + 1], left + edges[column]:left + edges[column + 1]] = colour
    return picture


def read_counter(picture: np.ndarray) -> int:
    """-> the number in a picture made by ``counted_picture``, of any size; raises if it is not upright or not RGB."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    number = 0
    for row in range(4):
        for column in range(4):
            y, x = top + int((row + 0.5) * side / 4), left + int((column + 0.5) * side / 4)
            block = picture[y - 1:y + 2, x - 1:x + 2].reshape(-1, 3).mean(axis=0)
            expected = CORNERS.get((row, column))
            if expected is None:
                number = number << 1 | int(block.mean() > 128)
            elif np.abs(block - expected).max() > 60:
                raise AssertionError(f"block {row}, {column} is {block.round()}, expected {expected}")
    return number


def tone_hz(second: int) -> float:
    """-> frequency of the burst in that second; exact in every sample rate from 8 kHz on."""
    return 400.0 + 100.0 * (second % 30)


def counted_sound(seconds: float, rate: int = 44100, channels: int = 1) -> np.ndarray:
    """-> (samples, channels) int16: silence, and in every second t a burst of ``tone_hz(t)`` from t + 0.25 s, 50 ms."""
    time = np.arange(round(seconds * rate)) / rate
    second = np.floor(time)
    phase = time - second - TONE_START_S
    burst = (phase >= 0) & (phase < TONE_LENGTH_S)
    wave = np.where(burst, 0.5 * np.sin(2 * np.pi * (400.0 + 100.0 * (second % 30)) * phase), 0.0)
    return np.repeat(np.rint(wave * 32767).astype(np.int16)[:, None], channels, axis=1)


def find_tone(samples: np.ndarray, rate: int) -> tuple[float, float]:
    """-> (start in seconds, frequency in Hz) of the one burst in ``samples``."""
    loud = np.flatnonzero(np.abs(samples) > 0.2 * np.abs(samples).max())
    start, stop = int(loud[0]), int(loud[-1]) + 1
    spectrum = np.abs(np.fft.rfft(samples[start:stop] * np.hanning(stop - start), 1 << 16))
    return start / rate, float(np.argmax(spectrum) * rate / (1 << 16))


def run_ffmpeg(arguments: Sequence[str | Path], stdin: bytes | None = None) -> None:
    """Run ffmpeg with plain arguments; raises RuntimeError with its last lines if it fails."""
    command = [ffmpeg_path(), "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr.decode(errors='replace')[-2000:]}")


def make_video(
    path: Path,
    seconds: float = 3.0,
    rate: str = "25",
    size: tuple[int, int] = (120, 160),
    video: Sequence[str] = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-pix_fmt", "yuv420p"),
    audio: Sequence[str] | None = ("-c:a", "aac", "-b:a", "128k"),
    sound: np.ndarray | None = None,
    sound_rate: int = 44100,
    output: Sequence[str] = (),
) -> Path:
    """Write a counted video with ffmpeg; ``size`` is (height, width). ``audio=None``: no sound. -> path

    ``rate`` is ffmpeg's notation (``30000/1001``); ``sound`` (samples, channels) int16 replaces the counted one;
    ``output`` are further output options.
    """
    top, _, bottom = rate.partition("/")
    count = round(seconds * float(top) / float(bottom or 1))
    raw = b"".join(counted_picture(number, *size).tobytes() for number in range(count))
    arguments = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[1]}x{size[0]}", "-r", rate, "-i", "pipe:0"]
    wave = path.with_name(path.name + ".s16")
    if audio is not None:
        sound = counted_sound(seconds, sound_rate) if sound is None else sound
        wave.write_bytes(sound.astype("<i2").tobytes())
        arguments += ["-f", "s16le", "-ar", str(sound_rate), "-ac", str(sound.shape[1]), "-i", str(wave)]
    arguments += [*video, *(audio or ()), *output, "file:" + str(path)]
    try:
        run_ffmpeg(arguments, raw)
    finally:
        wave.unlink(missing_ok=True)
    return path


def make_acquired(path: Path, videos: Sequence[Path], **columns) -> Path:
    """Write an acquired snapshot (schemas.ACQUIRED) of one shard over these files, ids video0, video1, ...

    ``columns`` replace what would stand there. -> path
    """
    count = len(videos)
    values: dict = {
        column.name: [""] * count if column.dtype == "str" else np.zeros(count, column.dtype)
        for column in schemas.ACQUIRED.columns
    }
    values |= {
        "id": [f"video{number}" for number in range(count)], "status": ["ok"] * count, "path": [str(v) for v in videos],
        "start_s": np.full(count, np.nan), "end_s": np.full(count, np.nan), "shard_content": [""],
    }
    with h5.Output(path, schemas.ACQUIRED).create() as file:
        for name, value in (values | columns).items():
            file.write(name, value)
    return path
