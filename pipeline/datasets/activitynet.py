"""ActivityNet-GZSL: the annotated segments of ActivityNet 1.3, 200 classes."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets import published
from pipeline.datasets.base import Dataset, Source, Video
from pipeline.errors import PipelineError

VIDEOS = 20348
ANNOTATIONS = "http://ec2-52-25-205-214.us-west-2.compute.amazonaws.com/files/activity_net.v1-3.min.json"
LARGEST_BYTES = 256 << 20


@dataclass(frozen=True)
class ActivityNetSettings(published.PublishedSettings):
    """[activitynet] ``upstream``, ``table``: as for the other datasets.

    ``annotations``: file or URL of activity_net.v1-3.min.json, which says where segments start and end; empty: only
    files that are already cut, named ``<YouTube id>_<k>``, can be used.
    """

    annotations: str = ANNOTATIONS


def describe(video_id: str, class_name: str) -> Video:
    """``<YouTube id>_<k>``: segment k, from 0, of that video's annotations."""
    key = video_id.rpartition("_")[0]
    return Video(video_id, class_name, f"youtube:{key}", group=key)


def list_videos(settings: ActivityNetSettings) -> list[Video]:
    """-> the listed segments, with start and end from the annotations."""
    videos = published.listed("activitynet", VIDEOS, describe)(settings)
    return published.with_cuts(videos, segments(settings.annotations)) if settings.annotations else videos


def segments(annotations: str) -> dict[str, tuple[float, float]]:
    """-> ``<YouTube id>_<k>`` -> start and end in seconds. Raises PipelineError if it is not such a file."""
    content = _content(annotations)
    try:
        database = json.loads(content)["database"]
        cuts = {
            f"{key}_{number}": (float(row["segment"][0]), float(row["segment"][1]))
            for key, entry in database.items()
            for number, row in enumerate(entry["annotations"])
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise PipelineError(
            f"{annotations}: found {content[:40]!r} ... ({type(error).__name__}: {error}), expected ActivityNet 1.3's "
            "activity_net.v1-3.min.json: download it by hand and name it in [activitynet] annotations"
        ) from error
    return {name: cut for name, cut in cuts.items() if 0 <= cut[0] < cut[1] < math.inf}


@functools.lru_cache(maxsize=1)
def _content(annotations: str) -> bytes:
    try:
        if annotations.startswith(("http://", "https://")):
            with urllib.request.urlopen(annotations, timeout=60) as answer:
                return answer.read(LARGEST_BYTES)
        return Path(annotations).expanduser().read_bytes()
    except OSError as error:
        raise PipelineError(
            f"{annotations}: {error}; expected ActivityNet 1.3's annotations: download activity_net.v1-3.min.json from "
            "http://activity-net.org/download.html and name it in [activitynet] annotations, or leave that empty in "
            "luigi.cfg to use only files that are already cut"
        ) from error


def fingerprint(settings: ActivityNetSettings) -> str:
    """-> content of local lists and annotations; what comes from the network is taken to stay as it is."""
    parts = [published.fingerprint(settings)]
    path = Path(settings.annotations).expanduser()
    if settings.annotations and path.is_file():
        parts.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return " ".join(parts).strip()


def clip_names(video: Video) -> tuple[str, ...]:
    return (video.id, f"v_{video.id}")


def whole_names(video: Video) -> tuple[str, ...]:
    return (video.group, f"v_{video.group}")


ACTIVITYNET = Dataset(
    name="activitynet",
    title="ActivityNet-GZSL (ActivityNet 1.3)",
    citation="Caba Heilbron, Escorcia, Ghanem and Niebles: ActivityNet: A Large-Scale Video Benchmark for Human "
    "Activity Understanding, CVPR 2015; split: Mercea et al., CVPR 2022",
    licence="annotations MIT; the videos are their uploaders'",
    protocols=("reference", "corrected"),
    nominal_s=50.0,
    settings=ActivityNetSettings,
    count_videos=published.counted(VIDEOS),
    list_videos=list_videos,
    fingerprint=fingerprint,
    clip_names=clip_names,
    whole_names=whole_names,
    sources=(
        Source(ANNOTATIONS, "annotations", note="no checksum published"),
        Source("http://activity-net.org/download.html", "page", note="missing videos: the authors' request form"),
    ),
)
