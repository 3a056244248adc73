"""The named deviations of the published code, and the two protocols that are presets over them.

A deviation has two values: ``published`` (what the released code does) and ``corrected``. Stage functions receive
the set of names that follow the published code and never see the protocol itself, so that each can be switched alone.
docs/reproduction.md explains every row, with its effect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pipeline.errors import SettingsError

PROTOCOLS = ("reference", "corrected")
VALUES = ("published", "corrected")


@dataclass(frozen=True)
class Deviation:
    """``stage`` is the task whose content it changes; ``published`` and ``corrected`` say what each value does.

    ``subjects``: the only clip plans (stage decode), extractors (decode, extract) or method with its variants (train)
    that it concerns; empty: all.
    """

    stage: str
    published: str
    corrected: str
    subjects: tuple[str, ...] = ()


DEVIATIONS: dict[str, Deviation] = {
    "audio_start": Deviation(
        "decode", "container start offsets ignored", "audio and video on one clock, gaps filled with silence"
    ),
    "edit_lists": Deviation(
        "decode", "raw timestamps: a late start shifts SeLaVi's windows", "time counts from the first shown frame"
    ),
    "selavi_windows": Deviation(
        "decode", "int(duration) - 1 windows at the published starts", "one window per full second of the whole video",
        subjects=("selavi_frames", "selavi_audio"),
    ),
    "selavi_short": Deviation(
        "decode", "under 2 s: no feature (too_short)", "from 1 s on", subjects=("selavi_frames", "selavi_audio")
    ),
    "c3d_windows": Deviation(
        "decode",
        "consecutive 16 frames at 25 fps, the last one padded",
        "one per full second: frames floor(25 j / 16) of its 25",
        subjects=("c3d_frames",),
    ),
    "vggish_windows": Deviation(
        "decode", "consecutive 0.96 s examples", "one per full second: 15,600 samples from its start",
        subjects=("vggish_audio",),
    ),
    # Its negative has to be taken before the resize, hence in decoding.
    "c3d_colour": Deviation(
        "decode", "BGR; UCF and VGGSound also negated, (256 - v) mod 256", "RGB", subjects=("c3d",)
    ),
    "c3d_scale": Deviation(
        "extract", "/255 and Kinetics mean and standard deviation in RGB order, on BGR", "0..255, no mean",
        subjects=("c3d",),
    ),
    "vggish_codes": Deviation(
        "extract", "PCA, clip to 2, 8-bit codes by truncation", "embedding after its ReLU", subjects=("vggish",)
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
        "train", "cross-entropy on scores that are already a softmax", "on the scores", subjects=("apn",)
    ),
    "cjme_attention": Deviation(
        "train", "mean attention times mean loss", "attention of each sample times its own loss",
        subjects=("cjme",),
    ),
    "fvaegan_batches": Deviation("train", "one batch an epoch", "all of them", subjects=("fvaegan",)),
    "fvaegan_selection": Deviation(
        "train", "best epoch and classifier on the test set", "on the validation set",
        subjects=("fvaegan",),
    ),
    "fvaegan_defects": Deviation(
        "train", "the released code's other defects", "the sound version", subjects=("fvaegan",)
    ),
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


def relevant(stages: Iterable[str], parts: Collection[str] | None = None, method: str = "") -> frozenset[str]:
    """-> names that can change an artefact made by these stages.

    ``parts``: the feature set's extractors and clip plans (None: any); ``method``: empty for any.
    """

    def concerns(row: Deviation) -> bool:
        if row.stage == "train":
            return method == "" or method.split("-")[0] in row.subjects
        return parts is None or not set(parts).isdisjoint(row.subjects)

    wanted = set(stages)
    return frozenset(
        name for name, row in DEVIATIONS.items() if row.stage in wanted and (not row.subjects or concerns(row))
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
