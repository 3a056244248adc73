"""Settings of feature extraction. Importing this module imports no torch."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from pipeline.errors import SettingsError

PRECISIONS = ("exact", "fast")
SOURCES = ("auto", "published", "generated")


@dataclass(frozen=True)
class ExtractionSettings:
    """Section [extraction].

    ``device``: auto (a GPU if there is one), cpu, cuda or cuda:<index>. ``precision``: exact (float32 throughout) or
    fast (docs/extractors.md says what it does on each device). ``video_batch_clips``, ``audio_batch_clips``: clips
    computed at once. ``threads``: CPU threads of one task. ``prefetch_batches``: batches read ahead.
    """

    device: str = "auto"
    precision: str = "exact"
    video_batch_clips: int = 8
    audio_batch_clips: int = 64
    threads: int = 1
    prefetch_batches: int = 2

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise SettingsError(
                f"[extraction] device: found {self.device!r}, expected auto, cpu, cuda or cuda:<index>"
            )
        if self.precision not in PRECISIONS:
            raise SettingsError(f"[extraction] precision: found {self.precision!r}, expected {' or '.join(PRECISIONS)}")
        for name in ("video_batch_clips", "audio_batch_clips", "threads", "prefetch_batches"):
            if getattr(self, name) < 1:
                raise SettingsError(f"[extraction] {name}: found {getattr(self, name)}, expected 1 or more")

    def content(self) -> dict[str, object]:
        """-> the fields that can change a feature, for the digest."""
        names = ("precision", "video_batch_clips", "audio_batch_clips", "threads")
        return {name: getattr(self, name) for name in names}

    def batch_clips(self, modality: str) -> int:
        """-> clips per batch of this modality (video or audio)."""
        return self.video_batch_clips if modality == "video" else self.audio_batch_clips


@dataclass(frozen=True)
class WeightsSettings:
    """Section [weights].

    ``source``: published (the files of extractors.weight_files), generated (pseudo-random weights, for the demo and
    for tests: features of untrained networks) or auto (generated for the demo, published otherwise). ``folder``:
    where weight files lie and where they are fetched to. ``choose``: slot=file pairs, file being a registered name or
    a path: ``selavi=selavi_kinetics``, ``c3d=/models/c3d.pickle``. ``fetch``: false forbids downloading.
    """

    source: str = "auto"
    folder: str = "data/weights"
    choose: tuple[str, ...] = ()
    fetch: bool = True

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise SettingsError(f"[weights] source: found {self.source!r}, expected one of {', '.join(SOURCES)}")
        if not self.folder:
            raise SettingsError("[weights] folder: found an empty path, expected a folder")
        for pair in self.choose:
            slot, separator, file = pair.partition("=")
            if not (slot and separator and file):
                raise SettingsError(f"[weights] choose: found {pair!r}, expected slot=name or slot=path")

    def resolved(self, dataset: str) -> WeightsSettings:
        """-> these settings with ``auto`` replaced by what it means for this dataset."""
        if self.source != "auto":
            return self
        return dataclasses.replace(self, source="generated" if dataset == "demo" else "published")

    @property
    def chosen(self) -> dict[str, str]:
        """-> slot name -> registered name or path."""
        return {slot: file for slot, _, file in (pair.partition("=") for pair in self.choose)}
