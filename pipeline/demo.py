"""The videos of the ``demo`` dataset, made on the spot: a coloured object that moves and sounds.

A class is three words, as in "red ball bouncing", and each word shows in both modalities:

* colour: of the object, and the pitch of its sound (red lowest, yellow highest);
* object: its shape and texture, and the timbre (ball mellow, board buzzing, ladder metallic);
* motion: of the object and of the light on the wall, and the rhythm (bouncing strikes, flashing beeps, spinning
  wavers).

So a class never seen can be recognised from the words it shares with seen ones, in either modality alone. Position,
size, speed, phase, shade, background, noise and loudness differ from video to video.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import PipelineError, SettingsError

GENERATOR_VERSION = 2
WIDTH, HEIGHT = 160, 120
FPS = 25
FRAMES = 30
SECONDS = FRAMES / FPS
RATE_HZ = 44100
COLOURS = {"red": (225, 40, 35), "green": (40, 190, 60), "blue": (45, 70, 230), "yellow": (235, 215, 40)}
PITCHES_HZ = {"red": 110.0, "green": 300.0, "blue": 820.0, "yellow": 2200.0}
OBJECTS = ("ball", "board", "ladder")
MOTIONS = ("bouncing", "flashing", "spinning")

# Among the seen classes, each colour meets each object once and each motion once: a colour says nothing about the other
# words. Every word occurs in every role, the training classes span all words (so that each word's share of a label can
# be told from the others'), and unseen classes differ from each other in two words or three.
CLASS_ROLES = {
    "red board flashing": "train",
    "red ladder spinning": "train",
    "green ball bouncing": "train",
    "green ladder spinning": "train",
    "blue board bouncing": "train",
    "blue ladder flashing": "train",
    "yellow board bouncing": "train",
    "yellow ball spinning": "train",
    "red ball bouncing": "val_unseen",
    "green board flashing": "val_unseen",
    "blue ball spinning": "val_unseen",
    "yellow ladder flashing": "val_unseen",
    "red ladder flashing": "test_unseen",
    "green board bouncing": "test_unseen",
    "blue ladder spinning": "test_unseen",
    "yellow ball bouncing": "test_unseen",
}


@dataclass(frozen=True)
class DemoSettings:
    """[demo] ``seed`` of the generator; ``videos_per_class`` of its 16 classes (10 to 100)."""

    seed: int = 0
    videos_per_class: int = 11

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SettingsError(f"[demo] seed: found {self.seed}, expected 0 or more")
        if not 10 <= self.videos_per_class <= 100:
            raise SettingsError(f"[demo] videos_per_class: found {self.videos_per_class}, expected 10 to 100")


def video_ids(settings: DemoSettings) -> list[tuple[str, str]]:
    """-> (video id, class name) of every video, sorted by id. The id is the file's path below the demo's folder."""
    pairs = [
        (f"{name.replace(' ', '_')}/{number:03d}.mp4", name)
        for name in CLASS_ROLES
        for number in range(settings.videos_per_class)
    ]
    return sorted(pairs)


def write_videos(
    folder: Path, seed: int, ids: Sequence[str], advance: Callable[[], object] | None = None
) -> None:
    """Make the videos of ``ids`` that ``folder`` lacks. A file is there whole or not at all.

    ``advance`` is called once per video. Raises PipelineError if ffmpeg fails.
    """

    def make(video_id: str) -> None:
        path = folder / video_id
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, video_id, seed)
        if advance is not None:
            advance()

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for _ in pool.map(make, ids):
            pass


def write_video(path: Path, video_id: str, seed: int) -> None:
    """Render ``video_id`` and encode it (H.264 and AAC in MP4) to ``path``; equal arguments give equal bytes."""
    from pipeline.media import ffmpeg_path

    frames, samples = render(video_id, seed)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as scratch:
        sound = Path(scratch) / "sound.wav"
        with contextlib.closing(wave.open(str(sound), "wb")) as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        target = Path(scratch) / "video.mp4"
        # One thread and no metadata: the bytes must not depend on the machine's cores, the time or the build's name.
        command = [ffmpeg_path(), "-nostdin", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "pipe:0", "-i", str(sound)]
        command += ["-map", "0:v", "-map", "1:a", "-threads", "1", "-pix_fmt", "yuv420p", "-c:v", "libx264"]
        command += ["-preset", "veryfast", "-crf", "20", "-c:a", "aac", "-b:a", "128k", "-map_metadata", "-1"]
        command += ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact", str(target)]
        done = subprocess.run(command, input=frames.tobytes(), capture_output=True)
        if done.returncode:
            raise PipelineError(
                f"{path}: ffmpeg ({command[0]}) could not write this demo video: "
                f"{done.stderr.decode(errors='replace').strip()[-300:]}; "
                "check the free space and that this ffmpeg has libx264 and aac"
            )
        os.replace(target, path)


def render(video_id: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """-> frames uint8 (30, 120, 160, 3) RGB at 25 a second, samples float64 (52920,) mono at 44.1 kHz in [-1, 1]."""
    colour, thing, motion = video_id.partition("/")[0].split("_")
    generator = np.random.default_rng([seed, *video_id.encode()])
    rhythm_hz = {"bouncing": 4.0, "flashing": 6.0, "spinning": 2.5}[motion] * generator.uniform(0.9, 1.1)
    phase = generator.uniform()
    frames = _frames(generator, colour, thing, motion, rhythm_hz, phase)
    return frames, _samples(generator, colour, thing, motion, rhythm_hz, phase)


def _frames(
    generator: np.random.Generator, colour: str, thing: str, motion: str, rhythm_hz: float, phase: float
) -> np.ndarray:
    cycles = np.arange(FRAMES)[:, None, None] / FPS * rhythm_hz + phase
    size = generator.uniform(38, 46)
    x0, y0 = generator.uniform(-8, 8), generator.uniform(-5, 5)
    angle = np.full_like(cycles, generator.uniform(-0.25, 0.25))
    lift = np.zeros_like(cycles)
    if motion == "bouncing":
        lift = 28 * np.abs(np.sin(np.pi * cycles)) - 14
    elif motion == "spinning":
        angle = 2 * np.pi * cycles * generator.choice((-1, 1))
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) - np.array([HEIGHT / 2, WIDTH / 2])[:, None, None]
    x, y = x[None] - x0, y[None] - y0 + lift
    u = (x * np.cos(angle) + y * np.sin(angle)) / size
    v = (y * np.cos(angle) - x * np.sin(angle)) / size
    inside, shade, white = _texture(thing, u, v)
    rgb = np.array(COLOURS[colour]) * generator.uniform(0.85, 1.0) + generator.uniform(-14, 14, 3)
    surface = (shade * (1 - white))[..., None] * rgb + (white * 225)[..., None]
    light = _light(motion, x, y, cycles, angle) * generator.uniform(0.75, 1.25)
    alpha = inside[..., None]
    picture = (_wall(generator) + light[..., None]) * (1 - alpha) + surface * alpha
    picture += generator.normal(0, generator.uniform(2, 6), (FRAMES, HEIGHT, WIDTH, 1))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _texture(thing: str, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> coverage, brightness and share of white of the surface, 0..1, at object coordinates (half its size is 1)."""

    def edge(distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 - 20 * distance, 0, 1)

    none = np.zeros_like(u)
    if thing == "ball":
        radius = np.hypot(u, v)
        return edge(radius - 1), (1 - 0.25 * radius**2) * (1 - 0.5 * edge(-u)), none
    if thing == "board":
        squares = np.clip(0.5 + 4 * np.sin(3 * np.pi * u) * np.sin(3 * np.pi * v), 0, 1)
        return edge(np.maximum(np.abs(u), np.abs(v)) - 0.95), np.ones_like(u), squares
    rungs = np.clip(0.5 + 2.5 * np.cos(5 * np.pi * v), 0, 1)
    rails = edge(0.55 - np.abs(u))
    return edge(np.maximum(np.abs(u) - 0.75, np.abs(v) - 1.2)), np.maximum(rungs, rails), none


def _light(motion: str, x: np.ndarray, y: np.ndarray, cycles: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """-> grey levels that the light adds to the wall; it moves as the object does."""
    if motion == "bouncing":
        return 40 + 40 * np.sin(2 * np.pi * y / 34) * np.ones_like(x)
    if motion == "flashing":
        return np.where(cycles % 1 < 0.5, 110.0, 0.0) * np.ones_like(x)
    return 40 + 40 * np.sin(3 * (np.arctan2(y, x) - angle))


def _wall(generator: np.random.Generator) -> np.ndarray:
    """-> (HEIGHT, WIDTH, 3): a dim, smooth, nearly grey wall."""
    coarse = generator.uniform(20, 60) + generator.uniform(-15, 15, (4, 5))
    rows = np.linspace(0, 3, HEIGHT)
    columns = np.linspace(0, 4, WIDTH)
    along = np.stack([np.interp(columns, range(5), row) for row in coarse])
    smooth = np.stack([np.interp(rows, range(4), along[:, column]) for column in range(WIDTH)], axis=1)
    return smooth[..., None] + generator.uniform(-8, 8, 3)


def _samples(
    generator: np.random.Generator, colour: str, thing: str, motion: str, rhythm_hz: float, phase: float
) -> np.ndarray:
    time = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    cycles = time * rhythm_hz + phase
    pitch_hz = PITCHES_HZ[colour] * generator.uniform(0.95, 1.05)
    bend = 1 + (0.03 * np.sin(2 * np.pi * 2 * cycles) if motion == "spinning" else 0)
    turns = np.cumsum(pitch_hz * bend * np.ones_like(time)) / RATE_HZ + generator.uniform()
    sound = sum(
        weight * np.sin(2 * np.pi * (ratio * turns + generator.uniform()))
        for ratio, weight in _partials(thing)
        if ratio * pitch_hz < 16000
    )
    sound = np.asarray(sound) / np.std(sound)
    hiss = generator.normal(0, 1, len(time))
    if motion == "bouncing":
        sound = (sound + 0.4 * hiss * np.exp(-40 * (cycles % 1))) * np.exp(-5 * (cycles % 1))
    elif motion == "flashing":
        sound = sound * np.clip(20 * (0.25 - np.abs(2 * cycles % 1 - 0.25)), 0, 1)
    else:
        sound = sound * (0.75 + 0.25 * np.sin(2 * np.pi * cycles)) + 0.1 * hiss
    noise = hiss * 10 ** (generator.uniform(-42, -34) / 20)
    level = 10 ** (generator.uniform(-6, 0) / 20) * 0.16
    return np.clip(level * (sound + noise), -1, 1)


def _partials(thing: str) -> list[tuple[float, float]]:
    """-> (frequency ratio, amplitude) of the tones that make the timbre of ``thing``."""
    if thing == "ball":
        return [(float(k), 1 / k**2) for k in range(1, 9)]
    if thing == "board":
        return [(float(k), 1 / k**0.5) for k in range(1, 41)]
    return [(1.0, 1.0), (2.76, 0.9), (5.4, 0.8), (8.93, 0.7), (13.34, 0.6), (18.6, 0.5)]
