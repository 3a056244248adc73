"""The named deviations of the published code, and the two protocols that are presets over them.

A deviation has two values: ``published`` (what the released code does) and ``corrected``. Stage functions receive
the set of names that follow the published code and never see the protocol itself, so that each can be switched alone.
docs/reproduction.md explains every row, with its effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pipeline.errors import SettingsError

PROTOCOLS = ("reference", "corrected")
VALUES = ("published", "corrected")


@dataclass(frozen=True)
class Deviation:
    """``stage`` is the task whose content it changes; ``published`` and ``corrected`` say what each value does.

    ``subject``: the only feature set, or the method and its variants, that it concerns; empty: all.
    """

    stage: str
    published: str
    corrected: str
    subject: str = ""


DEVIATIONS: dict[str, Deviation] = {
    "audio_start": Deviation(
        "decode", "container start offsets ignored", "audio and video on one clock, gaps filled with silence"
    ),
    "edit_lists": Deviation(
        "decode", "raw timestamps: a late start shifts SeLaVi's windows", "time counts from the first shown frame"
    ),
    "selavi_windows": Deviation(
        "decode", "int(duration) - 1 windows at the published starts", "one window per full second of the whole video",
        subject="selavi",
    ),
    "selavi_short": Deviation("decode", "under 2 s: no feature (too_short)", "from 1 s on", subject="selavi"),
    "c3d_windows": Deviation(
        "decode",
        "consecutive 16 frames at 25 fps, the last one padded",
        "one per full second: frames floor(25 j / 16) of its 25",
        subject="c3d_vggish",
    ),
    "vggish_windows": Deviation(
        "decode", "consecutive 0.96 s examples", "one per full second: 15,600 samples from its start",
        subject="c3d_vggish",
    ),
    # Its negative has to be taken before the resize, hence in decoding.
    "c3d_colour": Deviation(
        "decode", "BGR; UCF and VGGSound also negated, (256 - v) mod 256", "RGB", subject="c3d_vggish"
    ),
    "c3d_scale": Deviation(
        "extract", "/255 and Kinetics mean and standard deviation in RGB order, on BGR", "0..255, no mean",
        subject="c3d_vggish",
    ),
    "vggish_codes": Deviation(
        "extract", "PCA, clip to 2, 8-bit codes by truncation", "embedding after its ReLU", subject="c3d_vggish"
    ),
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
    "apn_softmax": Deviation(
        "train", "cross-entropy on scores that are already a softmax", "on the scores", subject="apn"
    ),
    "cjme_attention": Deviation(
        "train", "mean attention times mean loss", "attention of each sample times its own loss",
        subject="cjme",
    ),
    "fvaegan_batches": Deviation("train", "one batch an epoch", "all of them", subject="fvaegan"),
    "fvaegan_selection": Deviation(
        "train", "best epoch and classifier on the test set", "on the validation set",
        subject="fvaegan",
    ),
    "fvaegan_defects": Deviation("train", "the released code's other defects", "the sound version", subject="fvaegan"),
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


def relevant(stages: Iterable[str], feature_set: str = "", method: str = "") -> frozenset[str]:
    """-> names that can change an artefact made by these stages for this feature set and method (empty: any)."""

    def concerns(subject: str) -> bool:
        if subject in ("selavi", "c3d_vggish"):
            return feature_set in ("", subject)
        return method == "" or method.split("-")[0] == subject

    wanted = set(stages)
    return frozenset(
        name for name, row in DEVIATIONS.items() if row.stage in wanted and (not row.subject or concerns(row.subject))
    )


def canonical(
    published: frozenset[str], names: frozenset[str], protocols: Sequence[str] = PROTOCOLS
) -> tuple[str, str]:
    """-> (protocol, overrides) that says what ``published`` means for ``names``, in one way only.

    Two requests that differ in rows that do not matter to an artefact get the same answer, hence the same task.
    """
    follow, differ = published & names, names - published
    if "reference" in protocols and len(follow) > len(differ):
        return "reference", ",".join(f"{name}=corrected" for name in sorted(differ))
    return "corrected", ",".join(f"{name}=published" for name in sorted(follow))
