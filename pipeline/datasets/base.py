"""What a dataset declares, and how it is cut into shards.

A dataset is a page of declarations: one module with one ``Dataset``. It says what the dataset consists of, never what
could be downloaded of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHARD_SECONDS = 2500.0
MINIMUM_SHARDS = 8


@dataclass(frozen=True)
class Video:
    """One video. ``start_s`` and ``end_s`` cut it from its source where that is longer; nan: all of it.

    ``source``: an absolute path, or ``<scheme>:<key>``. ``group``: the recording it comes from. ``subset``: in the
    published split, if there is one.
    """

    id: str
    class_name: str
    source: str
    group: str
    start_s: float = math.nan
    end_s: float = math.nan
    subset: str = ""


@dataclass(frozen=True)
class Source:
    """A file that a dataset is published as. ``sha256`` is empty where the publisher gives none.

    ``bytes``: about how many, for estimates; 0: not known.
    ``kind``: ``archive`` (holds videos), ``annotations``, or ``page`` (for people).
    """

    url: str
    kind: str
    sha256: str = ""
    bytes: int = 0
    note: str = ""


@dataclass(frozen=True)
class Dataset:
    """``list_videos``, ``count_videos`` and ``fingerprint`` get the dataset's settings.

    ``protocols``: allowed ones, the default first. ``nominal_s``: length of a typical video, for sizing shards.
    ``fingerprint``: changes whenever ``list_videos`` would give something else for equal settings; "" if never.
    ``clip_names``: how a file that holds just this video may be called, without suffix; ``whole_names``: a file that
    the video is cut from by ``start_s`` and ``end_s``. ``roles``: class -> one of ``schemas.ROLES`` where the dataset
    itself says so; empty: they are drawn or published. ``word_vectors(settings, path)``: writes the dataset's own
    word vectors, if it has any.
    """

    name: str
    title: str
    citation: str
    licence: str
    protocols: tuple[str, ...]
    nominal_s: float
    settings: type
    count_videos: Callable[[Any], int]
    list_videos: Callable[[Any], list[Video]]
    fingerprint: Callable[[Any], str] = lambda settings: ""
    clip_names: Callable[[Video], tuple[str, ...]] = lambda video: (video.id,)
    whole_names: Callable[[Video], tuple[str, ...]] = lambda video: ()
    sources: tuple[Source, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    word_vectors: Callable[[Any, Path], object] | None = None

    def shards(self, settings: Any) -> int:
        """-> number of shards, known without the manifest. ``settings``: None means the defaults, here and below."""
        return shard_count(self.count_videos(self.chosen(settings)) * self.nominal_s)

    def chosen(self, settings: Any) -> Any:
        return self.settings() if settings is None else settings


def shard_count(seconds: float) -> int:
    """-> number of shards for that much video: at least 8, about 2,500 s or a little less in each.

    Rounded up to 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ...: a video more or less hardly ever changes the count, and
    as long as it does not, it changes one shard only.
    """
    wanted = math.ceil(seconds / SHARD_SECONDS)
    if wanted <= MINIMUM_SHARDS:
        return MINIMUM_SHARDS
    step = 2 ** ((wanted - 1).bit_length() - 3)
    return math.ceil(wanted / step) * step
