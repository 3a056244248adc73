"""How fast videos are decoded: seconds of video per second, on one core.

    python benchmarks/decode.py [--seconds 20] [--json FILE]

Makes 320x240 MPEG-4 (AVI, B frames, mp3, as UCF101), 640x360 and 1280x720 H.264 (MP4, AAC) at 30 frames a second, and
measures by CPU time, children included: each backend (every frame decoded, to RGB), its frames as SeLaVi's clips (all
30 of each second, cropped), the sound of either feature set, and the whole stage, from files to a written shard.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from pipeline import h5, schemas
from pipeline.decoders import read_frames, read_timeline
from pipeline.decoding import DecodingSettings, Source, decode_shard, survey_video, write_frames
from pipeline.errors import VideoError
from pipeline.media import MAX_PIXELS, probe
from pipeline.sound import read_sound
from pipeline.windows import plans_of
from tests.synthetic import make_acquired, run_ffmpeg

H264 = ("-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:v")
FILES = {
    "320x240 MPEG-4": ("a.avi", "320x240", ("-c:v", "mpeg4", "-bf", "2", "-b:v", "400k", "-c:a", "mp3")),
    "640x360 H.264": ("b.mp4", "640x360", (*H264, "700k")),
    "1280x720 H.264": ("c.mp4", "1280x720", (*H264, "2M")),
}
SETS = {"selavi": ("selavi_frames", "selavi_audio"), "c3d_vggish": ("c3d_frames", "vggish_audio")}
COPIES = 3


def make(path: Path, size: str, options: tuple[str, ...], seconds: int) -> Path:
    """Moving detail and noise, at the bit rates of filmed video on the web. -> path"""
    run_ffmpeg([
        "-f", "lavfi", "-i", f"testsrc2=s={size}:r=30:d={seconds}", "-f", "lavfi",
        "-i", f"anoisesrc=d={seconds}:a=0.1:r=44100", "-vf", "noise=alls=4:allf=t", *options, path,
    ])
    return path


def cpu_s() -> float:
    """-> CPU seconds of this process and its finished children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """-> (CPU seconds, wall seconds)."""
    cpu, wall = cpu_s(), time.monotonic()
    work()
    return cpu_s() - cpu, time.monotonic() - wall


def works_of(path: Path, folder: Path) -> dict[str, tuple[Callable[[], object], int]]:
    """-> label -> (what to run, how many times the video it decodes)."""
    facts = probe(path)
    _, frames, _ = read_timeline(path, facts, MAX_PIXELS)
    everything = np.arange(len(frames.ticks))
    link = folder / "video"
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    plans = plans_of(*SETS["selavi"])
    survey = survey_video(Source("video", str(path)), link, facts, plans, frozenset(), MAX_PIXELS)
    whole = (float("nan"), float("nan"))

    def pictures(backend: str) -> None:
        for _ in read_frames(backend, frames, everything):
            pass

    def stage(names: tuple[str, str]) -> None:
        acquired = make_acquired(folder / "acquired.h5", [path] * COPIES)
        output = h5.Output(folder / "decoded.h5", schemas.DECODED)
        decode_shard(acquired, 0, names, DecodingSettings(), frozenset(), output)

    works: dict[str, tuple[Callable[[], object], int]] = {}
    for backend in DecodingSettings().backends:
        works[f"{backend}: pictures"] = (partial(pictures, backend), 1)
        works[f"{backend}: SeLaVi clips"] = (partial(write_frames, backend, survey, plans[0], folder / "frames"), 1)
    for names in SETS.values():
        plan = plans_of(*names)[1]
        works[f"sound: {plan.name}"] = (partial(read_sound, path, facts, plan, 0.0, whole, folder / "sound"), 1)
    for feature_set, names in SETS.items():
        works[f"stage: {feature_set}"] = (partial(stage, names), COPIES)
    return works


def rows_of(name: str, path: Path, folder: Path, seconds: int) -> list[dict]:
    rows: list[dict] = []
    import decord  # noqa: F401  its start-up is no part of a backend's time
    for label, (work, copies) in works_of(path, folder).items():
        try:
            cpu, wall = measured(work)
        except VideoError as error:
            rows.append({"file": name, "what": label, "failed": str(error)})
            continue
        video_s = seconds * copies
        rows.append({"file": name, "what": label, "per_core": video_s / cpu, "cpu_ms_per_second": 1000 * cpu / video_s,
                     "per_wall_second": video_s / wall})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=20, help="length of each video")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    rows = []
    print(f"{'file':16} {'what':24} {'video s per core s':>18} {'CPU ms per video s':>18} {'video s per s':>18}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, (file, size, options) in FILES.items():
            path = make(folder / file, size, options, arguments.seconds)
            for row in rows_of(title, path, folder, arguments.seconds):
                rows.append(row)
                figures = row.get("failed") or "".join(
                    f"{row[key]:>19.1f}" for key in ("per_core", "cpu_ms_per_second", "per_wall_second"))
                print(f"{row['file']:16} {row['what']:24}{figures}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
