"""UCF-GZSL: the clips of UCF101 that have sound, 51 classes."""

from __future__ import annotations

from pipeline.datasets.base import Dataset, Source, Video
from pipeline.datasets.published import PublishedSettings, counted, fingerprint, listed

VIDEOS = 6816


def describe(video_id: str, class_name: str) -> Video:
    """``v_<Class>_g<group>_c<clip>``: the clips of a group are cut from one recording."""
    return Video(video_id, class_name, source=f"archive:{video_id}", group=video_id.rpartition("_c")[0])


def clip_names(video: Video) -> tuple[str, ...]:
    """The handstands are written two ways in UCF101: in the folder and class list, and in its file names."""
    other = video.id.replace("HandStandPushups", "HandstandPushups")
    return (video.id, other, video.id.replace("HandstandPushups", "HandStandPushups"))


UCF = Dataset(
    name="ucf",
    title="UCF-GZSL (UCF101)",
    citation="Soomro, Zamir and Shah: UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild, "
    "CRCV-TR-12-01, 2012; split: Mercea et al., CVPR 2022",
    licence="none stated by the authors; clips from YouTube, for research",
    protocols=("reference", "corrected"),
    nominal_s=7.2,
    settings=PublishedSettings,
    count_videos=counted(VIDEOS),
    list_videos=listed("ucf", VIDEOS, describe),
    fingerprint=fingerprint,
    clip_names=clip_names,
    sources=(
        Source("https://www.crcv.ucf.edu/data/UCF101/UCF101.rar", "archive", bytes=6932971618,
               note="RAR; the publisher gives no checksum"),
        Source("https://www.crcv.ucf.edu/data/UCF101.php", "page"),
    ),
)
