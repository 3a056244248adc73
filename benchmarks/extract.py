"""What extraction costs: ``python benchmarks/extract.py [--seconds 10] [--videos 1] [--device auto] [--threads 1]``.

Makes videos (640x360, 25 pictures a second, stereo), and for each feature set measures decoding alone, each network
alone on inputs that are ready, and the whole stage: decoding, then reading, copying, preprocessing, computing and
writing. Loading the weights (generated ones) happens once per shard of 2,500 seconds and is shown apart. FLOP are
counted by torch; the device's peak is its best matrix product in the same arithmetic. Times on a GPU are wall times;
on a CPU they are core seconds, of child processes too, so that other work on the machine does not count. The last line
is JSON, also appended to ``--json FILE``.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from extractors import base, registry
from extractors.settings import ExtractionSettings, WeightsSettings
from extractors.weights import Store
from pipeline import decoding, h5, schemas
from tests.synthetic import make_acquired, run_ffmpeg

DATASET, PUBLISHED = "demo", frozenset[str]()
WEIGHTS = WeightsSettings(source="generated")
Result = TypeVar("Result")


def make_videos(folder: Path, count: int, seconds: float) -> list[Path]:
    """Encode moving test pictures with a changing tone: H.264 and AAC, every video with its own size of detail."""
    paths = [folder / f"{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        pictures = f"testsrc2=size=640x360:rate=25:duration={seconds},hue=h={40 * number}"
        sound = f"sine=frequency={220 + 110 * number}:beep_factor=4:sample_rate=44100:duration={seconds}"
        run_ffmpeg(["-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", sound, "-ac", "2", "-pix_fmt", "yuv420p", path])
    return paths


def clock(device: torch.device) -> float:
    """-> seconds: wall time once a GPU has done all it was given; core seconds on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def timed(device: torch.device, work: Callable[[], Result]) -> tuple[float, Result]:
    """-> seconds that ``work`` takes, and what it returns."""
    start = clock(device)
    result = work()
    return clock(device) - start, result


def matrix_peak(device: torch.device, settings: ExtractionSettings) -> float:
    """-> FLOP a second of the best of a few matrix products, in the arithmetic of this precision."""
    size = 8192 if device.type == "cuda" else 1536
    half = settings.precision == "fast" and device.type == "cuda"
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if half else torch.float32)
    with base.arithmetic(device, settings):
        torch.mm(a, a)
        best = min(timed(device, lambda: torch.mm(a, a))[0] for _ in range(4))
    return 2 * size**3 / best


def measure_network(name: str, shard: Path, device: torch.device, settings: ExtractionSettings) -> dict[str, Any]:
    """-> clips, seconds of the network alone over the shard's clips, GFLOP per clip, seconds to load."""
    line = registry.entry(name)
    load_s, extractor = timed(device, lambda: base.build(name, Store(WEIGHTS), PUBLISHED, DATASET))
    extractor = base.place(extractor, device, settings)
    network_s, size = 0.0, settings.batch_clips(line.modality, device.type)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with h5.read(shard, schemas.DECODED) as file, base.arithmetic(device, settings):
        column = base.CLIPS[line.modality]
        count = file.length(column)
        for start in range(-size, count, size):  # the first batch twice: the first time to warm up
            clips = torch.from_numpy(file.rows(column, max(start, 0), min(max(start, 0) + size, count))).to(device)
            x = extractor.prepare(clips)
            seconds, _ = timed(device, functools.partial(base.network_of, extractor, x, settings))
            network_s += seconds if start >= 0 else 0.0
        with FlopCounterMode(display=False) as counter:
            extractor.network(x[:1])
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    gflop = counter.get_total_flops() / 1e9
    return {"clips": count, "network_s": network_s, "gflop_per_clip": gflop, "load_s": load_s, "device_bytes": peak}


def measure(feature_set: str, videos: list[Path], folder: Path, device: torch.device, settings: ExtractionSettings):
    """-> figures of one feature set."""
    plans = registry.plans(feature_set, PUBLISHED, DATASET)
    acquired, shard = make_acquired(folder / f"{feature_set}-acquired.h5", videos), folder / f"{feature_set}-shard.h5"
    output = h5.Output(shard, schemas.DECODED)
    decode_s, _ = timed(device, lambda: decoding.decode_shard(
        acquired, 0, (plans["video"], plans["audio"]), decoding.DecodingSettings(), PUBLISHED, output
    ))
    networks = {
        name: measure_network(name, shard, device, settings)
        for name in registry.feature_set_named(feature_set).extractors.values()
    }
    # The same function that the stage calls, with the time that it spends on making networks taken apart.
    loading: list[float] = []
    make = base.build

    def timed_build(*arguments: Any) -> base.Extractor:
        seconds, extractor = timed(device, lambda: make(*arguments))
        loading.append(seconds)
        return extractor

    base.build = timed_build  # type: ignore[assignment]
    try:
        features = h5.Output(folder / f"{feature_set}-features.h5", schemas.CLIP_FEATURES)
        extract_s, _ = timed(device, lambda: base.extract(
            shard, feature_set, WEIGHTS, settings, PUBLISHED, DATASET, features
        ))
    finally:
        base.build = make
    network_s = sum(each["network_s"] for each in networks.values())
    whole_s = decode_s + extract_s - sum(loading)
    return {
        "extractors": networks, "decode_s": decode_s, "extract_s": extract_s - sum(loading), "load_s": sum(loading),
        "network_s": network_s, "whole_s": whole_s, "network_share": network_s / whole_s,
        "whole_by_network": whole_s / network_s,
    }


def show(figures: dict[str, Any]) -> None:
    seconds, peak = figures["video_seconds"], figures["matrix_peak_gflops"]
    print(f"{figures['device']}, {figures['threads']} threads, {figures['precision']}; {seconds:g} s of video")
    print(f"matrix peak {peak:.0f} GFLOP/s; peak memory {figures['peak_memory_mb']:.0f} MB")
    for name, each in figures["feature_sets"].items():
        print(
            f"{name}: video seconds per second: decode only {seconds / each['decode_s']:.2f}, "
            f"networks only {seconds / each['network_s']:.2f}, whole stage {seconds / each['whole_s']:.2f}; "
            f"networks' share {100 * each['network_share']:.1f} %, whole / networks {each['whole_by_network']:.3f}; "
            f"weights loaded in {each['load_s']:.1f} s"
        )
        for extractor, facts in each["extractors"].items():
            speed = facts["gflop_per_clip"] * facts["clips"] / facts["network_s"]
            print(
                f"  {extractor}: {facts['clips']} clips, {facts['network_s'] / facts['clips']:.4f} s and "
                f"{facts['gflop_per_clip']:.2f} GFLOP a clip, {speed:.1f} GFLOP/s ({100 * speed / peak:.0f} % of peak)"
            )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each video")
    parser.add_argument("--videos", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="exact")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--feature-set", action="append", choices=list(registry.FEATURE_SETS))
    parser.add_argument("--json", type=Path, help="file to append the JSON line to")
    chosen = parser.parse_args(arguments)
    settings = ExtractionSettings(device=chosen.device, precision=chosen.precision, threads=chosen.threads)
    device = base.device_of(settings)
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = make_videos(folder, chosen.videos, chosen.seconds)
        sets = {
            each: measure(each, videos, folder, device, settings)
            for each in chosen.feature_set or registry.FEATURE_SETS
        }
    memory_kb = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    figures = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": settings.threads,
        "precision": settings.precision,
        "torch": torch.__version__,
        "video_seconds": chosen.videos * chosen.seconds,
        "matrix_peak_gflops": matrix_peak(device, settings) / 1e9,
        "peak_memory_mb": memory_kb / 1024,
        "feature_sets": sets,
    }
    show(figures)
    line = json.dumps(figures)
    if chosen.json:
        with chosen.json.open("a") as file:
            file.write(line + "\n")
    print(line)
    return figures


def processor() -> str:
    """-> the processor's name, as Linux states it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
