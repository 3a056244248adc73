"""What extraction costs: ``python benchmarks/extract.py [--seconds 10] [--videos 3] [--device auto] [--threads 1]``.

Makes videos (640x360, 25 pictures a second, stereo), and for each feature set measures decoding alone, each network
alone on inputs that are ready, and the whole stage: decoding, then reading, copying, preprocessing, computing and
writing. Weights (generated ones) are loaded once, apart; the stage does it once per shard of 2,500 seconds.

On a CPU times are core seconds, of child processes too, so that other work on the machine does not count. On a GPU they
are wall times: ``--processes`` decode shard k + 1 while shard k of ``--shards`` is extracted, as tasks do beside each
other, and the stage can be no faster than the slower of the two. FLOP are counted by torch; the device's peak is its
best matrix product in the same arithmetic. The last line is JSON, also appended to ``--json FILE``.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
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
    kind = torch.bfloat16 if settings.precision == "fast" else torch.float32
    a = torch.randn(size, size, device=device, dtype=kind)
    with base.arithmetic(device, settings):
        torch.mm(a, a)
        best = min(timed(device, lambda: torch.mm(a, a))[0] for _ in range(4))
    return 2 * size**3 / best


def measure_network(
    name: str, extractor: base.Extractor, shard: Path, device: torch.device, settings: ExtractionSettings
) -> dict[str, Any]:
    """-> clips, seconds of the network alone over the shard's clips, GFLOP per clip."""
    line = registry.entry(name)
    network_s, size = 0.0, settings.batch_clips(line.modality, device.type)
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
    return {"clips": count, "network_s": network_s, "gflop_per_clip": counter.get_total_flops() / 1e9}


def decode(acquired: Path, shard: int, feature_set: str, processes: int, target: Path) -> Path:
    """Decode one shard; -> ``target``."""
    plans, settings = registry.plans(feature_set, PUBLISHED, DATASET), decoding.DecodingSettings(processes=processes)
    output = h5.Output(target, schemas.DECODED)
    decoding.decode_shard(acquired, shard, (plans["video"], plans["audio"]), settings, PUBLISHED, output)
    return target


def decode_ahead(
    acquired: Path, shards: int, feature_set: str, processes: int, folder: Path, clocked: list[float]
) -> Iterator[Path]:
    """Yield shard by shard, decoded in a process of its own meanwhile; ``clocked`` gets the wall time of the start."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(decode, acquired, 0, feature_set, processes, folder / "warm.h5").result()
        clocked.append(time.perf_counter())
        made = [
            pool.submit(decode, acquired, k, feature_set, processes, folder / f"ahead-{k}.h5") for k in range(shards)
        ]
        for future in made:
            yield future.result()


def measure(
    feature_set: str, videos: list[Path], shards: int, processes: int, folder: Path, device: torch.device,
    settings: ExtractionSettings,
) -> dict[str, Any]:
    """-> figures of one feature set, over all shards, each of which holds all videos."""
    columns = {"shard": np.repeat(np.arange(shards), len(videos)), "shard_content": [""] * shards}
    acquired = make_acquired(folder / "acquired.h5", videos * shards, **columns)
    start = clock(device)
    shard = [decode(acquired, k, feature_set, processes, folder / f"{k}.h5") for k in range(shards)][0]
    decode_s = clock(device) - start

    def extract(decoded: Path) -> None:
        output = h5.Output(decoded.with_suffix(".features.h5"), schemas.CLIP_FEATURES)
        base.extract(decoded, feature_set, WEIGHTS, settings, PUBLISHED, DATASET, output)

    make = base.build
    names = registry.feature_set_named(feature_set).extractors.values()
    load_s, loaded = timed(device, lambda: {
        name: base.place(make(name, Store(WEIGHTS), PUBLISHED, DATASET), device, settings) for name in names
    })
    networks = {name: measure_network(name, loaded[name], shard, device, settings) for name in names}
    base.build = lambda name, *_: loaded[name]  # type: ignore[assignment]
    try:
        if device.type == "cpu":
            extract_s, _ = timed(device, lambda: extract(shard))
            whole_s, device_bytes = decode_s + extract_s, 0
        else:
            torch.cuda.reset_peak_memory_stats(device)
            extract_s, _ = timed(device, lambda: extract(shard))
            clocked: list[float] = []
            for decoded in decode_ahead(acquired, shards, feature_set, processes, folder, clocked):
                extract(decoded)
            whole_s, device_bytes = clock(device) - clocked[0], torch.cuda.max_memory_allocated(device)
    finally:
        base.build = make
    network_s = sum(each["network_s"] for each in networks.values()) * shards
    least_s = max(decode_s, network_s) if device.type == "cuda" else decode_s + network_s
    return {
        "extractors": networks, "decode_s": decode_s, "extract_s": extract_s * shards, "load_s": load_s,
        "network_s": network_s, "whole_s": whole_s, "whole_by_network": whole_s / network_s,
        "bound_share": least_s / whole_s, "device_bytes": device_bytes,
    }


def show(figures: dict[str, Any]) -> None:
    seconds, peak = figures["video_seconds"], figures["matrix_peak_gflops"]
    print(f"{figures['device']}, {figures['threads']} threads, {figures['precision']}; {seconds:g} s of video, "
          f"{figures['processes']} decoding")
    print(f"matrix peak {peak:.0f} GFLOP/s; peak memory {figures['peak_memory_mb']:.0f} MB")
    for name, each in figures["feature_sets"].items():
        print(
            f"{name}: video seconds per second: decode only {seconds / each['decode_s']:.2f}, "
            f"networks only {seconds / each['network_s']:.2f}, whole stage {seconds / each['whole_s']:.2f}; "
            f"whole / networks {each['whole_by_network']:.3f}, {100 * each['bound_share']:.0f} % of what decoding and "
            f"networks allow; weights loaded in {each['load_s']:.1f} s"
            + (f", {each['device_bytes'] >> 20} MB on the device" if each["device_bytes"] else "")
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
    parser.add_argument("--videos", type=int, default=3, help="videos of each shard")
    parser.add_argument("--shards", type=int, default=4, help="on a GPU; a CPU does one")
    parser.add_argument("--processes", type=int, default=1, help="that decode, on a GPU; a CPU has one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="exact")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--feature-set", action="append", choices=list(registry.FEATURE_SETS))
    parser.add_argument("--json", type=Path, help="file to append the JSON line to")
    chosen = parser.parse_args(arguments)
    settings = ExtractionSettings(device=chosen.device, precision=chosen.precision, threads=chosen.threads)
    device = base.device_of(settings)
    torch.set_num_threads(settings.threads)
    shards, processes = (chosen.shards, chosen.processes) if device.type == "cuda" else (1, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = make_videos(folder, chosen.videos, chosen.seconds)
        sets = {
            each: measure(each, videos, shards, processes, folder, device, settings)
            for each in chosen.feature_set or registry.FEATURE_SETS
        }
    memory_kb = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    figures = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": settings.threads,
        "precision": settings.precision,
        "torch": torch.__version__,
        "processes": processes,
        "video_seconds": shards * chosen.videos * chosen.seconds,
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
