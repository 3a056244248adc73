"""The named deviations of the published code, and the two protocols that are presets over them.

A deviation has two values: ``published`` (what the released code does) and ``corrected``. Stage functions receive
the set of names that follow the published code and never see the protocol itself, so that each can be switched alone.
docs/reproduction.md explains every row, with its effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from pipeline.errors import SettingsError

PROTOCOLS = ("reference", "corrected")
VALUES = ("published", "corrected")


@dataclass(frozen=True)
class Deviation:
    """``stage`` is the task whose content it changes; ``published`` and ``corrected`` say what each value does."""

    stage: str
    published: str
    corrected: str


DEVIATIONS: dict[str, Deviation] = {
    "audio_start": Deviation(
        "decode", "container start offsets ignored", "audio and video on one clock, gaps filled with silence"
    ),
    "edit_lists": Deviation("decode", "raw timestamps, edit lists ignored", "edit lists respected"),
    "selavi_windows": Deviation(
        "decode", "int(duration) - 1 windows at the published starts", "one window per full second of the whole video"
    ),
    "selavi_short": Deviation("decode", "under 2 s: no feature (too_short)", "from 1 s on"),
    "c3d_windows": Deviation(
        "decode",
        "consecutive 16 frames at 25 fps, the last one padded",
        "one per full second: frames floor(25 j / 16) of its 25",
    ),
    "vggish_windows": Deviation(
        "decode", "consecutive 0.96 s examples", "one per full second: 15,600 samples from its start"
    ),
    "c3d_colour": Deviation("extract", "BGR; UCF and VGGSound also negated, (256 - v) mod 256", "RGB"),
    "c3d_scale": Deviation(
        "extract", "/255 and Kinetics mean and standard deviation in RGB order, on BGR", "0..255, no mean"
    ),
    "vggish_codes": Deviation("extract", "PCA, clip to 2, 8-bit codes by truncation", "embedding after its ReLU"),
    "label_order": Deviation(
        "benchmark", "row i of the name-sorted table goes to class i of the class-sorted list", "each class its own"
    ),
    "batchnorm_passes": Deviation(
        "train", "extra train-mode passes move the running statistics", "only the forward pass of the loss"
    ),
    "position_offset": Deviation("train", "drawn once, never trained", "trained like every other parameter"),
    "stage2_schedule": Deviation(
        "train", "learning rate falls on a plateau of a score on training data", "stage 1's rates, epoch by epoch"
    ),
    "calibration": Deviation(
        "train",
        "mean of three branches' best values, 0 replaced by 1e-10",
        "the best value of the branch that predicts",
    ),
    "apn_softmax": Deviation("train", "cross-entropy on scores that are already a softmax", "on the scores"),
    "cjme_attention": Deviation(
        "train", "mean attention times mean loss", "attention of each sample times its own loss"
    ),
    "fvaegan_batches": Deviation("train", "one batch an epoch", "all of them"),
    "fvaegan_selection": Deviation(
        "train", "best epoch and classifier on the test set", "on the validation set"
    ),
    "fvaegan_defects": Deviation("train", "the released code's other defects", "the sound version"),
    "split_groups": Deviation("split", "clips of one source fall on both sides", "kept together"),
}


def resolve(protocol: str, overrides: Iterable[str] = ()) -> frozenset[str]:
    """-> names that follow the published code, for ``protocol`` with ``name=value`` overrides applied.

    Raises SettingsError for an unknown protocol, name or value.
    """
    if protocol not in PROTOCOLS:
        raise SettingsError(f"protocol {protocol!r} is unknown; expected one of {', '.join(PROTOCOLS)}")
    names = set(DEVIATIONS) if protocol == "reference" else set()
    for item in overrides:
        name, separator, value = item.partition("=")
        if name not in DEVIATIONS:
            near = get_close_matches(name, DEVIATIONS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(DEVIATIONS)}"
            raise SettingsError(f"deviation {name!r} is unknown{hint}")
        if not separator or value not in VALUES:
            raise SettingsError(f"deviation {item!r}: expected {name}=published or {name}=corrected")
        (names.add if value == "published" else names.discard)(name)
    return frozenset(names)


def of_stage(published: frozenset[str], *stages: str) -> tuple[str, ...]:
    """-> the published names of these stages, sorted: what such an artefact's digest covers."""
    return tuple(sorted(name for name in published if DEVIATIONS[name].stage in stages))
