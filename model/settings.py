"""What a training is made of: the settings a user may change, and the specification they resolve to. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import SettingsError

EMBEDDING_SIZE = 300


@dataclass(frozen=True)
class TrainingSettings:
    """[training].

    ``device``: auto (a GPU if there is one), cpu, cuda or cuda:<n>. ``threads``: CPU threads of one training, 1 or
    more; the numbers depend on it in their last bits. ``strict``: a test class without videos is an error, not a
    remark. ``checkpoint_period_s``: least seconds between two training checkpoints, 0 or more; one is written at most
    once an epoch, and a killed stage goes on from the last one.

    The others stand for the published value of the method on this data (docs/methods.md) where they are 0, or -1 where
    0 is a value. ``epochs``: of each stage, 1 or more; stage 2 ends with the epoch that stage 1 chose.
    ``batches_per_epoch``: 1 or more. ``batch_size``: videos in a batch, 2 or more. ``learning_rate``: Adam's at the
    start, above 0. ``weight_decay``: Adam's L2 penalty, 0 or more. ``encoder_dropout``: share of units dropped, 0 to
    below 1, in encoders and attention, and the only rate of ALE, SJE, DEVISE and CJME; ``projection_dropout``: in
    projections and AVGZSLNet's decoder; ``decoder_dropout``: in AVCA's reconstructions. ``momentum``: weight of the new
    batch in the second batch norm of AVCA's two-layer blocks, above 0, up to 1. ``synthetic_per_class``: features that
    f-VAEGAN makes of each unseen class, 1 or more.
    """

    device: str = "auto"
    threads: int = 1
    strict: bool = False
    checkpoint_period_s: float = 0.0
    epochs: int = 0
    batches_per_epoch: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    weight_decay: float = -1.0
    encoder_dropout: float = -1.0
    projection_dropout: float = -1.0
    decoder_dropout: float = -1.0
    momentum: float = 0.0
    synthetic_per_class: int = 0

    def __post_init__(self) -> None:
        require("training", self, "device", device_known(self.device), "auto, cpu, cuda or cuda:<n>")
        require("training", self, "threads", self.threads >= 1, "1 or more")
        require("training", self, "checkpoint_period_s", self.checkpoint_period_s >= 0, "0 or more seconds")
        for name in ("epochs", "batches_per_epoch", "synthetic_per_class"):
            require("training", self, name, getattr(self, name) >= 0, "0 (published) or more")
        enough = self.batch_size == 0 or self.batch_size >= 2  # a batch norm needs two rows
        require("training", self, "batch_size", enough, "0 (published), 2 or more")
        require("training", self, "learning_rate", 0 <= self.learning_rate < math.inf, "0 (published) or more")
        require("training", self, "weight_decay", -1 <= self.weight_decay < math.inf, "-1 (published), 0 or more")
        for name in ("encoder_dropout", "projection_dropout", "decoder_dropout"):
            rate = getattr(self, name)
            require("training", self, name, rate == -1 or 0 <= rate < 1, "-1 (published), or 0 or more and below 1")
        require("training", self, "momentum", 0 <= self.momentum <= 1, "0 (published), or up to 1")


@dataclass(frozen=True)
class Spec:
    """One training, fully resolved. Made by ``registry.specification``.

    ``origin``: whose values these are, in words; ``published`` if they are the published ones of this method, data set
    and feature set, each of them.
    ``encoder_dropout`` is the only rate of ALE, SJE, DEVISE and CJME; AVGZSLNet's decoder uses ``projection_dropout``.
    ``momentum``: of the second batch norm of AVCA's two-layer blocks (PyTorch's convention: weight of the new batch).
    ``normalise_inputs``: ALE, SJE, DEVISE and APN divide [video, audio] by its L2 norm.
    ``hidden_size``: encoders; ``projection_hidden_size``: AVCA's projections, AVGZSLNet's decoder.
    """

    method: str
    dataset: str
    feature_set: str
    seed: int
    epochs: int
    batches_per_epoch: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    encoder_dropout: float
    projection_dropout: float
    decoder_dropout: float
    momentum: float
    hidden_size: int
    projection_hidden_size: int
    normalise_inputs: bool
    synthetic_per_class: int
    origin: str = ""
    device: str = "auto"
    threads: int = 1
    strict: bool = False
    checkpoint_period_s: float = 0.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SettingsError(f"seed: found {self.seed}, expected 0 or more")

    def content(self) -> dict[str, object]:
        """-> what can change the numbers of a training: part of its digest."""
        return {name: value for name, value in vars(self).items()
                if name not in ("device", "strict", "checkpoint_period_s")}


def device_known(name: str) -> bool:
    """-> whether ``name`` is auto, cpu, cuda or cuda:<n>."""
    return name in ("auto", "cpu", "cuda") or (name.startswith("cuda:") and name[5:].isdigit())


def require(section: str, settings: object, name: str, holds: bool, expected: str) -> None:
    """Raise SettingsError, naming section, field, value and expectation, unless ``holds``."""
    if not holds:
        raise SettingsError(f"[{section}] {name}: found {getattr(settings, name)}, expected {expected}")
