"""Which extractors there are. A new one is one file and one line of ``EXTRACTORS`` (docs/adding.md).

Importing this module imports no torch: an extractor's module is loaded when its class is asked for.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from extractors.settings import WeightsSettings
from extractors.weight_files import C3D, SELAVI, VGGISH, VGGISH_PCA, Slot
from pipeline.errors import SettingsError


@dataclass(frozen=True)
class OtherPlan:
    """``plan`` holds where ``deviation`` is published and the dataset is one of ``datasets``."""

    plan: str
    deviation: str
    datasets: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One extractor.

    ``modality``: video or audio. ``width``: length of a feature row. ``target``: "module:Class".
    ``plan``: name of the clip plan of pipeline.windows that cuts its clips.
    ``clip``: shape of one decoded clip: (frames, 112, 112, 3) uint8 RGB, or (samples,) float32. ``weights``: the slots
    that it reads. ``other_plan``: takes the place of ``plan`` where the published features need it. ``pretraining``:
    the sets whose classes can't be unseen for it (docs/labels_and_splits.md).
    """

    modality: str
    width: int
    target: str
    plan: str
    clip: tuple[int, ...]
    weights: tuple[Slot, ...] = ()
    other_plan: OtherPlan | None = None
    pretraining: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeatureSet:
    """One extractor per modality, by name."""

    video: str
    audio: str

    @property
    def extractors(self) -> dict[str, str]:
        """-> modality -> extractor name."""
        return {"video": self.video, "audio": self.audio}



EXTRACTORS: dict[str, Entry] = {
    "selavi_video": Entry(
        "video", 512, "extractors.selavi_video:SelaviVideo", "selavi_frames", (30, 112, 112, 3), (SELAVI,),
        pretraining=("sports1m",),
    ),
    "selavi_audio": Entry(
        "audio", 512, "extractors.selavi_audio:SelaviAudio", "selavi_audio", (44100,), (SELAVI,),
        pretraining=("sports1m",),
    ),
    "c3d": Entry(
        "video", 4096, "extractors.c3d:C3D", "c3d_frames", (16, 112, 112, 3), (C3D,),
        OtherPlan("c3d_frames_negative", "c3d_colour", ("ucf", "vggsound")), pretraining=("sports1m",),
    ),
    "vggish": Entry(
        "audio", 128, "extractors.vggish:VGGish", "vggish_audio", (15600,), (VGGISH, VGGISH_PCA),
        pretraining=("youtube8m",),
    ),
}

FEATURE_SETS: dict[str, FeatureSet] = {
    "selavi": FeatureSet("selavi_video", "selavi_audio"),
    "c3d_vggish": FeatureSet("c3d", "vggish"),
}


def _lookup(table: dict[str, Any], kind: str, name: str) -> Any:
    if name not in table:
        near = get_close_matches(name, table, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(table)}"
        raise SettingsError(f"{kind} {name!r} is unknown; {hint}")
    return table[name]


def entry(name: str) -> Entry:
    """-> the line of this extractor. Raises SettingsError."""
    return _lookup(EXTRACTORS, "extractor", name)


def feature_set_named(name: str) -> FeatureSet:
    """-> the extractors of this feature set. Raises SettingsError."""
    return _lookup(FEATURE_SETS, "feature set", name)


def plans(feature_set: str, published: frozenset[str], dataset: str) -> dict[str, str]:
    """-> modality -> name of the clip plan of pipeline.windows that decodes for this feature set."""
    chosen = {}
    for modality, name in feature_set_named(feature_set).extractors.items():
        line = entry(name)
        other = line.other_plan
        applies = other is not None and other.deviation in published and dataset in other.datasets
        chosen[modality] = other.plan if other is not None and applies else line.plan
    return chosen


def pretraining(feature_set: str) -> tuple[str, ...]:
    """-> the sets that this feature set's extractors have been pre-trained on, as the splits look at them."""
    names = feature_set_named(feature_set).extractors.values()
    return tuple(dict.fromkeys(each for name in names for each in entry(name).pretraining))


def subjects(feature_set: str) -> frozenset[str]:
    """-> what deviations can be about in this feature set: its extractors and their clip plans."""
    lines = {name: entry(name) for name in feature_set_named(feature_set).extractors.values()}
    return frozenset(lines) | {line.plan for line in lines.values()}


def slot_named(name: str) -> Slot:
    """-> the weight slot of this name, of whichever extractor declares it. Raises SettingsError."""
    return _lookup({slot.name: slot for line in EXTRACTORS.values() for slot in line.weights}, "weight slot", name)


def slots(feature_set: str, published: frozenset[str]) -> tuple[Slot, ...]:
    """-> the weights that this feature set needs with these deviations, each once, in registry order."""
    names = feature_set_named(feature_set).extractors.values()
    wanted = [slot for name in names for slot in entry(name).weights]
    return tuple(slot for slot in dict.fromkeys(wanted) if not slot.needed_by or slot.needed_by in published)


def weights_identity(
    feature_set: str, settings: WeightsSettings, published: frozenset[str] = frozenset(), dataset: str = ""
) -> dict[str, str]:
    """-> slot -> what stands for its weights in a digest.

    A registered file is named (with its checksum where that is published), so that the digest does not wait for the
    download; a path stands for the content that lies there; generated weights for the version of their recipe.
    Raises WeightsError where a path does not exist.
    """
    from extractors import weights

    return {slot.name: weights.identity(slot, settings.resolved(dataset)) for slot in slots(feature_set, published)}


def load(name: str) -> Any:
    """-> the class of this extractor; imports its module, and with it torch."""
    module, _, attribute = entry(name).target.partition(":")
    return getattr(importlib.import_module(module), attribute)
