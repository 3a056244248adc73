"""Numbers of the AVCA paper's authors, and the question whether a result of ours may stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SOURCE = "README of the AVCA-GZSL repository (2711aeb), one run each"
DATASETS = ("vggsound", "ucf", "activitynet")

# method -> HM, ZSL in per cent for each of DATASETS; time-averaged SeLaVi features
SELAVI = {
    "ale": (0.53, 5.48, 23.66, 16.32, 3.94, 7.90),
    "sje": (2.15, 4.06, 26.50, 18.93, 5.57, 7.08),
    "devise": (2.08, 5.59, 23.56, 16.09, 4.91, 8.53),
    "apn": (5.11, 4.49, 20.61, 16.44, 7.27, 6.34),
    "fvaegan": (1.77, 1.91, 11.37, 11.11, 2.87, 2.40),
    "cjme": (6.17, 5.16, 12.48, 8.29, 5.12, 5.84),
    "avgzslnet": (5.83, 5.28, 18.05, 13.65, 6.44, 5.40),
    "avca": (6.31, 6.00, 27.15, 20.01, 12.13, 9.13),
}
# time-averaged C3D fc7 and VGGish features; the authors give none for f-VAEGAN-D2
C3D_VGGISH = {
    "ale": (3.23, 4.97, 35.37, 32.30, 1.55, 6.16),
    "sje": (4.69, 3.22, 24.28, 32.47, 2.35, 4.35),
    "devise": (3.64, 4.72, 31.98, 35.48, 0.33, 5.84),
    "apn": (6.29, 6.50, 18.35, 29.69, 3.58, 3.97),
    "cjme": (3.68, 3.72, 28.65, 29.01, 7.32, 6.29),
    "avgzslnet": (5.26, 4.81, 36.51, 31.51, 8.30, 6.39),
    "avca": (8.31, 6.91, 41.34, 37.72, 9.92, 7.58),
}
TABLES = {"selavi": SELAVI, "c3d_vggish": C3D_VGGISH}

# Slot -> registered file that the published features were made with.
WEIGHTS = {"selavi": "selavi_vggsound", "c3d": "c3d_sports1m", "vggish": "pytorch_vggish", "vggish_pca": "vggish_pca"}
# What model.registry calls hyper-parameters that are the published ones, each of them.
PUBLISHED = "published"

# sha256 of the complete video list (benchmark.video_list_hash) of the released splits
VIDEO_LISTS: dict[tuple[str, str], str] = {
    ("ucf", "selavi"): "259a3860b107185d6f227e4fa048f5db90bc0bc1beaa1ecf98fac7b99f2dd9da",
    ("ucf", "c3d_vggish"): "dadfb15523c6fb188ab89fecd718d4243b837a8291b64cbe9e8e66611ae07db5",
    ("activitynet", "selavi"): "bf397baaa8f41b9b6623af29effd794277f7f087b26b4462bb2bd6813c82ae94",
    ("activitynet", "c3d_vggish"): "7fa65b61ee2abc6fae0a03c7eb12909a83b63b034344ada070441c5aecbd7a2e",
    ("vggsound", "selavi"): "beb1a6f546e144302720a8c3722a555c7982bf0b2e24e9d8b0abd6c8b46f419b",
    ("vggsound", "c3d_vggish"): "443fd8264255c523af3f79cc18df476f41effc7d31fc8ec7a9b1495bd23aebd3",
}


def value(dataset: str, feature_set: str, method: str) -> dict[str, float] | None:
    """-> published HM and ZSL in per cent, or None where there are none."""
    row = TABLES.get(feature_set, {}).get(method)
    if row is None or dataset not in DATASETS:
        return None
    at = 2 * DATASETS.index(dataset)
    return {"HM": row[at], "ZSL": row[at + 1]}


def obstacle(dataset: str, feature_set: str, protocol: str, origin: str, facts: Mapping[str, Any]) -> str:
    """-> why a result can't be compared with published ones, in words; empty if it can.

    ``protocol``: with its changed deviations; ``origin``: of the hyper-parameters; ``facts``: attributes of the
    benchmark: split, video_list_sha256, weights (slot -> what was loaded).
    """
    if (dataset, feature_set) not in VIDEO_LISTS:
        return f"there are no published results for {dataset} with {feature_set}"
    if protocol != "reference":
        return f"protocol is {protocol}, not reference"
    if origin != PUBLISHED:
        return f"hyper-parameters are {origin}"
    kind = weights_kind(facts.get("weights"))
    if kind != "published":
        return f"computed with {kind} weights"
    if facts.get("split") != "published":
        return f"split is {facts.get('split')}, not the published one"
    if facts.get("video_list_sha256") != VIDEO_LISTS[dataset, feature_set]:
        return "the videos are not all those of the published lists"
    return ""


def weights_kind(weights: Any) -> str:
    """``weights``: slot -> facts with ``source`` and ``name``. -> published, generated, other or unknown.

    Other: a file of the user's, or a registered one that the published features were not made with.
    """
    if not isinstance(weights, Mapping) or not weights:
        return "unknown"
    entries = {slot: entry if isinstance(entry, Mapping) else {} for slot, entry in weights.items()}
    if any(entry.get("source") == "generated" for entry in entries.values()):
        return "generated"
    theirs = all(e.get("source") == "published" and e.get("name") == WEIGHTS.get(s) for s, e in entries.items())
    return "published" if theirs else "other"
