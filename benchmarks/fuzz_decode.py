"""Mutate small videos at random and decode them: no hang, no crash of this process, every outcome a known reason.

    python benchmarks/fuzz_decode.py --seconds 600 [--seed 0] [--keep FOLDER]

Truncates, flips bits, overwrites, cuts out, repeats and splices parts of counted videos in several containers and
codecs, and sends them through the decoding stage as shards. Prints the outcomes by container and reason, and the
longest time that one file took. Exits 1, and keeps the files of the shard, if a shard fails, a file takes longer than
its limit, or gives an unknown outcome.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from pipeline import decoding, h5, schemas
from pipeline.decoding import DecodingSettings, decode_shard
from pipeline.errors import REASONS
from pipeline.progress import Progress
from tests.synthetic import make_acquired, make_video

LIMIT_S = 20.0
SLACK_S = 10.0
SHARD = 20
SEEDS: dict[str, dict] = {
    "mp4": {"video": ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p"),
            "output": ("-movflags", "faststart")},
    "mkv": {"video": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error",
                      "-pix_fmt", "yuv420p"),
            "audio": ("-c:a", "libvorbis")},
    "webm": {"video": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"), "audio": ("-c:a", "libopus")},
    "avi": {"video": ("-c:v", "mpeg4", "-bf", "2", "-q:v", "5"), "audio": ("-c:a", "mp3")},
    "mov": {"video": ("-c:v", "mjpeg", "-q:v", "8"), "audio": ("-c:a", "pcm_s16le")},
}
PLANS = (("selavi_frames", "selavi_audio"), ("c3d_frames", "vggish_audio"))


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """-> ``data`` after one to three random changes; ``other`` is spliced in now and then."""
    for _ in range(rng.integers(1, 4)):
        size = max(len(data), 1)
        start = int(rng.integers(size if rng.random() < 0.6 else min(2048, size)))
        length = min(int(rng.integers(1, 5000)), size - start)
        kind = rng.integers(7)
        changed = bytearray(data)
        if kind == 0:
            changed = changed[:start]
        elif kind == 1:
            for place in start + rng.integers(0, max(length, 1), rng.integers(1, 40)):
                if place < len(changed):
                    changed[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            changed[start:start + length] = rng.bytes(length)
        elif kind == 3:
            changed[start:start + length] = bytes([int(rng.choice([0, 255]))]) * length
        elif kind == 4:
            del changed[start:start + length]
        elif kind == 5:
            changed[start:start] = changed[start:start + length]
        else:
            changed = changed[:start] + other[int(rng.integers(len(other))):]
        data = bytes(changed)
    return data


class Stopwatch(Progress):
    """Times each file of a shard: one process decodes them one after the other."""

    taken_s: ClassVar[list[float]] = []

    def __enter__(self) -> Stopwatch:
        Stopwatch.taken_s = []
        self.last = time.monotonic()
        super().__enter__()
        return self

    def advance(self, count: int = 1) -> None:
        now = time.monotonic()
        self.taken_s.append(now - self.last)
        self.last = now


def decode(paths: list[Path], folder: Path, number: int) -> list[tuple[str, str]]:
    """-> (outcome, backend) per file; raises AssertionError on what must not happen."""
    settings = DecodingSettings(timeout_s=LIMIT_S, timeout_per_second=0.0, memory_mb=2048)
    acquired = make_acquired(folder / "acquired.h5", paths)
    output = h5.Output(folder / "decoded.h5", schemas.DECODED)
    with mock.patch.object(decoding, "Progress", Stopwatch):
        decode_shard(acquired, 0, PLANS[number % len(PLANS)], settings, frozenset(), output)
    with h5.read(output.path, schemas.DECODED) as file:
        outcomes = [reason or status for status, reason in zip(file["status"], file["reason"], strict=True)]
        clips = np.diff(file["video/offsets"]) + np.diff(file["audio/offsets"])
        backends = file["backend"].tolist()
    for path, taken in zip(paths, Stopwatch.taken_s, strict=True):
        assert taken < LIMIT_S + SLACK_S, f"{path.name} took {taken:.0f} s, its limit is {LIMIT_S:.0f} s"
    for outcome, count in zip(outcomes, clips, strict=True):
        assert outcome == "ok" or outcome in REASONS, f"unknown outcome {outcome!r}"
        assert (count > 0) == (outcome == "ok"), f"{count} clips with outcome {outcome!r}"
    return list(zip(outcomes, backends, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz_failures"), help="where files of a failed shard go")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    counts: Counter[tuple[str, str]] = Counter()
    backends: Counter[str] = Counter()
    failures, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = {ending: make_video(folder / f"seed.{ending}", 2.2, rate="12", size=(64, 80), **options).read_bytes()
                 for ending, options in SEEDS.items()}
        endings = list(seeds)
        end = time.monotonic() + arguments.seconds
        number = 0
        while time.monotonic() < end:
            work = folder / str(number)
            work.mkdir()
            paths = []
            for index in range(SHARD):
                ending, other = rng.choice(endings, 2)
                paths.append(work / f"{index}.{ending}")
                paths[-1].write_bytes(mutate(seeds[ending], seeds[other], rng))
            try:
                for path, (outcome, backend) in zip(paths, decode(paths, work, number), strict=True):
                    counts[path.suffix[1:], outcome] += 1
                    backends[backend] += 1
                slowest = max(slowest, *Stopwatch.taken_s)
            except Exception as error:
                failures += 1
                kept = arguments.keep / f"seed{arguments.seed}_shard{number}"
                shutil.copytree(work, kept, dirs_exist_ok=True)
                print(f"shard {number}: {error!r}; its files are in {kept}", flush=True)
            shutil.rmtree(work)
            number += 1
    outcomes = sorted({outcome for _, outcome in counts})
    print(f"{sum(counts.values())} files in {number} shards, {failures} failures, at most {slowest:.1f} s for one file")
    print(f"{'outcome':16}" + "".join(f"{ending:>7}" for ending in endings) + f"{'all':>8}")
    for outcome in outcomes:
        row = [counts[ending, outcome] for ending in endings]
        print(f"{outcome:16}" + "".join(f"{count:7}" for count in row) + f"{sum(row):8}")
    print("backends of those decoded: " + ", ".join(f"{name} {count}" for name, count in backends.items() if name))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
