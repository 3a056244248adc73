"""The demonstration dataset: videos made on the spot."""

from __future__ import annotations

from pipeline import demo
from pipeline.datasets.base import Dataset, Video
from pipeline.demo import DemoSettings
from pipeline.demo_words import write_word_vectors


def list_videos(settings: DemoSettings) -> list[Video]:
    return [
        Video(id=video_id, class_name=name, source=f"demo:{settings.seed}", group=video_id)
        for video_id, name in demo.video_ids(settings)
    ]


DEMO = Dataset(
    name="demo",
    title="Demonstration: coloured objects that move and sound",
    citation="made by pipeline/demo.py of this project",
    licence="MIT, as this project",
    protocols=("corrected",),
    nominal_s=demo.SECONDS,
    settings=DemoSettings,
    count_videos=lambda settings: settings.videos_per_class * len(demo.CLASS_ROLES),
    list_videos=list_videos,
    fingerprint=lambda settings: f"generator {demo.GENERATOR_VERSION}",
    roles=demo.CLASS_ROLES,
    word_vectors=lambda settings, path: write_word_vectors(path, settings.seed),
)
