"""What each deviation of the published code costs on the demo: ``python benchmarks/deviations.py [NAME ...]``.

Runs the demo as it is and once per deviation with that one alone switched to ``published``, all in one artefact folder
so that nothing is done twice. Prints, per row, how far the features move (mean distance between the two versions of a
video's features, over the mean distance between two different videos) and how S, U, HM and ZSL change, as mean over the
seeds. The demo's networks have generated weights: the sizes tell what a switch touches, not what it costs on real data.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from pipeline import h5, schemas
from pipeline.deviations import DEVIATIONS

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
            if file.attributes["parameters"]["deviations"] == deviations:
                return tuple(dict(zip(file["id"].tolist(), file[name], strict=True)) for name in ("video", "audio"))
    raise SystemExit(f"{root}: no pooled features of {feature_set} with deviations {deviations!r}")


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    """-> mean distance of a video to its other self, over the mean distance between two videos."""
    common = sorted(before.keys() & after.keys())
    a, b = np.stack([before[i] for i in common]), np.stack([after[i] for i in common])
    return float(np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(a - np.roll(a, 1, axis=0), axis=1).mean())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", default=[name for name in DEVIATIONS if name not in ELSEWHERE])
    options.add_argument("--root", type=Path, default=Path("data"))
    options.add_argument("--seeds", default="0,1,2")
    chosen = options.parse_args()
    print("| deviation | on | video features move | audio features move | ΔS | ΔU | ΔHM | ΔZSL |")
    print("|---|---|---|---|" + "---|" * len(COLUMNS))
    base: dict[tuple[str, str], dict[str, float]] = {}
    for name in chosen.names:
        row = DEVIATIONS[name]
        sets = [row.subject] if row.subject in ("selavi", "c3d_vggish") else ["selavi", "c3d_vggish"]
        method = METHOD.get(name, "avca")
        for feature_set in sets if row.stage in ("decode", "extract") else sets[:1]:
            key = (feature_set, method)
            if key not in base:
                base[key] = run(chosen.root, *key, chosen.seeds, "")
            switched = run(chosen.root, *key, chosen.seeds, f"{name}=published")
            moves = ["", ""]
            if row.stage in ("decode", "extract"):
                pair = features(chosen.root, feature_set, ""), features(chosen.root, feature_set, f"{name}=published")
                moves = [f"{100 * moved(pair[0][k], pair[1][k]):.1f} %" for k in (0, 1)]
            changes = " | ".join(f"{switched[c] - base[key][c]:+.1f}" for c in COLUMNS)
            print(f"| `{name}` | {feature_set}, {method} | {moves[0]} | {moves[1]} | {changes} |", flush=True)


if __name__ == "__main__":
    main()
