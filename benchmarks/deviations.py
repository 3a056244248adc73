"""What each deviation of the published code costs on the demo: ``python benchmarks/deviations.py [NAME ...]``.

Runs the demo as it is and once per deviation with that one alone switched to ``published``, all in one artefact folder
so that nothing is done twice. Prints, per row, how far the features move (mean distance between the two versions of a
video's features, over the mean distance between two different videos) and how S, U, HM and ZSL change, as mean over the
seeds. With ``--videos DIR`` it decodes and extracts those videos instead and prints how far their features move.
All networks have generated weights: the sizes tell what a switch touches, not what it costs on the published data.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from extractors import base, registry
from extractors.settings import ExtractionSettings, WeightsSettings
from pipeline import decoding, h5, media, pooling, schemas
from pipeline.deviations import DEVIATIONS, relevant

# Rows that need something the demo has not: several clips or recordings a source, other methods, a published order.
ELSEWHERE = {"split_groups", "edit_lists", "selavi_short"}
METHOD = {"apn_softmax": "apn", "cjme_attention": "cjme", "fvaegan_batches": "fvaegan",
          "fvaegan_selection": "fvaegan", "fvaegan_defects": "fvaegan"}
COLUMNS = ("S", "U", "HM", "ZSL")


def run(root: Path, feature_set: str, method: str, seeds: str, deviations: str) -> dict[str, float]:
    """-> mean scores over the seeds of one benchmark run."""
    words = ["RunBenchmark", "--dataset", "demo", "--feature-set", feature_set, "--methods", method, "--seeds", seeds,
             "--deviations", deviations, "--paths-root", str(root)]
    done = subprocess.run([sys.executable, "-m", "luigi", "--module", "tasks", *words], capture_output=True, text=True,
                          check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if done.returncode or not last.startswith("Report: "):
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
    with (Path(last.removeprefix("Report: ")).parent / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: float(np.mean([float(row[name]) for row in rows])) for name in COLUMNS}


def features(root: Path, feature_set: str, deviations: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """-> video and audio features by video id of the pooled features made with exactly these deviations."""
    for path in (root / "video_features" / "demo").glob(f"{feature_set}-*.h5"):
        with h5.read(path, schemas.VIDEO_FEATURES) as file:
            if file.attributes["task_parameters"]["deviations"] == deviations:
                return tuple(dict(zip(file["id"].tolist(), file[name], strict=True)) for name in ("video", "audio"))
    raise SystemExit(f"{root}: no pooled features of {feature_set} with deviations {deviations!r}")


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    """-> mean distance of a video to its other self, over the mean distance between two videos."""
    common = sorted(before.keys() & after.keys())
    a, b = np.stack([before[i] for i in common]), np.stack([after[i] for i in common])
    return float(np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(a - np.roll(a, 1, axis=0), axis=1).mean())


def acquired_of(paths: list[Path], seconds: float, output: h5.Output) -> None:
    """Write a snapshot (schemas.ACQUIRED) of the first ``seconds`` of these files, all in one shard."""
    columns = {column.name: [] for column in schemas.ACQUIRED.columns}
    for path in paths:
        row = {"id": path.stem, "status": "ok", "reason": "", "detail": "", "path": str(path.resolve()), "start_s": 0.0,
               "end_s": seconds, "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
               "shard": 0, **media.probe(path).columns()}
        for name, value in row.items():
            columns[name].append(value)
    with output.create() as file:
        for column in schemas.ACQUIRED.columns:
            file.write(column.name, columns[column.name] or ["-"])


def features_of(folder: Path, feature_set: str, dataset: str, published: frozenset[str]) -> list[dict]:
    """-> video and audio features, by video id, of the snapshot in ``folder``."""
    plans = registry.plans(feature_set, published, dataset)
    decoded, clips = folder / "decoded.h5", folder / "clips.h5"
    decoding.decode_shard(folder / "acquired.h5", 0, (plans["video"], plans["audio"]), decoding.DecodingSettings(),
                          published, h5.Output(decoded, schemas.DECODED))
    base.extract(decoded, feature_set, WeightsSettings(source="generated"), ExtractionSettings(threads=2), published,
                 dataset, h5.Output(clips, schemas.CLIP_FEATURES))
    pooling.pool([clips], h5.Output(folder / "pooled.h5", schemas.VIDEO_FEATURES))
    with h5.read(folder / "pooled.h5", schemas.VIDEO_FEATURES) as file:
        return [dict(zip(file["id"].tolist(), file[name], strict=True)) for name in ("video", "audio")]


def of_real_videos(names: list[str], folder: Path, seconds: float) -> None:
    """Print how far each row about decoding and extraction moves the features of the videos in ``folder``."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".mp4", ".mkv", ".avi", ".webm"))
    print("| deviation | features | video features move | audio features move |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        acquired_of(paths, seconds, h5.Output(Path(scratch) / "acquired.h5", schemas.ACQUIRED))
        plain = {name: features_of(Path(scratch), name, "ucf", frozenset()) for name in registry.FEATURE_SETS}
        for name in names:
            for feature_set in concerned(name) if DEVIATIONS[name].stage in ("decode", "extract") else ():
                after = features_of(Path(scratch), feature_set, "ucf", frozenset({name}))
                shares = [f"{100 * moved(a, b):.1f} %" for a, b in zip(plain[feature_set], after, strict=True)]
                print(f"| `{name}` | {feature_set} | {shares[0]} | {shares[1]} |", flush=True)


def concerned(name: str) -> list[str]:
    """-> the feature sets that a row can change."""
    stage = [DEVIATIONS[name].stage]
    return [each for each in registry.FEATURE_SETS if name in relevant(stage, registry.subjects(each))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", default=[name for name in DEVIATIONS if name not in ELSEWHERE])
    options.add_argument("--root", type=Path, default=Path("data"))
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--videos", type=Path, help="move the features of these videos instead of running the demo")
    options.add_argument("--seconds", type=float, default=3.5, help="of each of these videos")
    chosen = options.parse_args()
    if chosen.videos:
        of_real_videos(chosen.names, chosen.videos, chosen.seconds)
    else:
        of_demo(chosen.names, chosen.root, chosen.seeds)


def of_demo(names: list[str], root: Path, seeds: str) -> None:
    """Print what each row does to the demo's features and scores."""
    print("| deviation | on | video features move | audio features move | ΔS | ΔU | ΔHM | ΔZSL |")
    print("|---|---|---|---|" + "---|" * len(COLUMNS))
    base: dict[tuple[str, str], dict[str, float]] = {}
    for name in names:
        row = DEVIATIONS[name]
        sets = concerned(name)
        method = METHOD.get(name, "avca")
        for feature_set in sets if row.stage in ("decode", "extract") else sets[:1]:
            key = (feature_set, method)
            if key not in base:
                base[key] = run(root, *key, seeds, "")
            switched = run(root, *key, seeds, f"{name}=published")
            moves = ["", ""]
            if row.stage in ("decode", "extract"):
                pair = features(root, feature_set, ""), features(root, feature_set, f"{name}=published")
                moves = [f"{100 * moved(pair[0][k], pair[1][k]):.1f} %" for k in (0, 1)]
            changes = " | ".join(f"{switched[c] - base[key][c]:+.1f}" for c in COLUMNS)
            print(f"| `{name}` | {feature_set}, {method} | {moves[0]} | {moves[1]} | {changes} |", flush=True)


if __name__ == "__main__":
    main()
