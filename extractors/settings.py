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
    computed at once; 0: what suits the device, 16 video clips on a GPU and 1 on a CPU, where more gain little (in a
    batch of 4, R(2+1)D takes 4 % longer a clip and C3D 15 % less). ``threads``: CPU threads of one task.
    ``prefetch_batches``: batches read ahead.
    """

    device: str = "auto"
    precision: str = "exact"
    video_batch_clips: int = 0
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
        counts = {"video_batch_clips": 0, "audio_batch_clips": 1, "threads": 1, "prefetch_batches": 1}
        for name, least in counts.items():
            if getattr(self, name) < least:
                raise SettingsError(f"[extraction] {name}: found {getattr(self, name)}, expected {least} or more")

    def content(self) -> dict[str, object]:
        """-> the fields that can change a feature, for the digest."""
        names = ("precision", "video_batch_clips", "audio_batch_clips", "threads")
        return {name: getattr(self, name) for name in names}

    def batch_clips(self, modality: str, device: str) -> int:
        """-> clips per batch of this modality (video or audio) on this type of device (cpu or cuda)."""
        if modality == "audio":
            return self.audio_batch_clips
        return self.video_batch_clips or (1 if device == "cpu" else 16)


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
