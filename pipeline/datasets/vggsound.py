"""VGGSound-GZSL: ten-second clips of YouTube videos, 276 classes."""

from __future__ import annotations

from pipeline.datasets.base import Dataset, Source, Video
from pipeline.datasets.published import PublishedSettings, counted, fingerprint, listed

VIDEOS = 93752
CLIP_SECONDS = 10.0


def describe(video_id: str, class_name: str) -> Video:
    """``<YouTube id>_<start in seconds, six digits>``."""
    key, _, start = video_id.rpartition("_")
    return Video(video_id, class_name, f"youtube:{key}", key, float(start), float(start) + CLIP_SECONDS)


def clip_names(video: Video) -> tuple[str, ...]:
    """Mirrors also write the start without zeros, or start and end in seconds or milliseconds."""
    start, end = int(video.start_s), int(video.end_s)
    forms = (f"{start}", f"{start}_{end}", f"{start * 1000}_{end * 1000}", f"{start:06d}_{end:06d}")
    return (video.id, *(f"{video.group}_{form}" for form in forms))


VGGSOUND = Dataset(
    name="vggsound",
    title="VGGSound-GZSL (VGGSound)",
    citation="Chen, Xie, Vedaldi and Zisserman: VGGSound: A Large-scale Audio-Visual Dataset, ICASSP 2020; "
    "split: Mercea et al., CVPR 2022",
    licence="annotations CC BY 4.0; the videos are their uploaders'",
    protocols=("reference", "corrected"),
    nominal_s=CLIP_SECONDS,
    settings=PublishedSettings,
    count_videos=counted(VIDEOS),
    list_videos=listed("vggsound", VIDEOS, describe),
    fingerprint=fingerprint,
    clip_names=clip_names,
    whole_names=lambda video: (video.group,),
    sources=(
        Source("https://www.robots.ox.ac.uk/~vgg/data/vggsound/vggsound.csv", "annotations",
               note="all 199,176 clips; the released split's lists name the ones used here"),
        Source("https://www.robots.ox.ac.uk/~vgg/data/vggsound/", "page"),
    ),
)
