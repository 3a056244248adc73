"""Every method by name, loaded when it is needed, with its published hyper-parameters. No torch here.

The numbers are those of the released run scripts, effective values included (argument defaults a script leaves alone).
They are equal in both stages. Names of the data: ``selavi`` is what the scripts call main, ``c3d_vggish`` cls.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from model.settings import Spec, TrainingSettings
from pipeline.errors import SettingsError

PUBLISHED_DATASETS = ("ucf", "activitynet", "vggsound")

METHODS: dict[str, str] = {
    "avca": "model.avca:AVCA",
    "ale": "model.baselines.ale:ALE",
    "sje": "model.baselines.sje:SJE",
    "devise": "model.baselines.devise:DEVISE",
    "apn": "model.baselines.apn:APN",
    "fvaegan": "model.baselines.fvaegan:FVAEGAN",
    "cjme": "model.baselines.cjme:CJME",
    "avgzslnet": "model.baselines.avgzslnet:AVGZSLNet",
    "avca-audio": "model.ablations:AudioAlone",
    "avca-visual": "model.ablations:VisualAlone",
    "avca-no-attention": "model.ablations:NoAttention",
    "avca-visual-attention": "model.ablations:VisualBranch",
    "avca-audio-attention": "model.ablations:AudioBranch",
    "avca-minus-lt": "model.ablations:MinusTriplet",
    "avca-minus-lrec": "model.ablations:MinusReconstruction",
    "avca-minus-lct": "model.ablations:MinusCrossTriplet",
    "avca-minus-lw": "model.ablations:MinusWordTriplet",
    "avca-minus-lr": "model.ablations:MinusRegularisation",
    "avgzslnet-attention": "model.ablations:AVGZSLNetAttention",
}
ABLATIONS = tuple(name for name in METHODS if "-" in name)
MAIN_METHODS = tuple(name for name in METHODS if name not in ABLATIONS)


@dataclass(frozen=True)
class HyperParameters:
    """The published values of one method on one dataset and feature set; the fields are those of Spec."""

    epochs: int = 50
    batches_per_epoch: int = 500
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    encoder_dropout: float = 0.0
    projection_dropout: float = 0.0
    decoder_dropout: float = 0.0
    momentum: float = 0.1
    hidden_size: int = 512
    projection_hidden_size: int = 512
    normalise_inputs: bool = False
    synthetic_per_class: int = 1000


# dataset, feature set -> dropout of encoders and attention, of projections, of decoders; momentum; batch size
AVCA_PUBLISHED: dict[tuple[str, str], tuple[float, float, float, float, int]] = {
    ("ucf", "selavi"): (0.2, 0.3, 0.5, 0.1, 256),
    ("ucf", "c3d_vggish"): (0.2, 0.3, 0.5, 0.99, 256),
    ("activitynet", "selavi"): (0.2, 0.2, 0.1, 0.99, 256),
    ("activitynet", "c3d_vggish"): (0.2, 0.2, 0.1, 0.99, 256),
    ("vggsound", "selavi"): (0.0, 0.0, 0.1, 0.1, 64),
    ("vggsound", "c3d_vggish"): (0.0, 0.0, 0.0, 0.99, 256),
}


def names() -> tuple[str, ...]:
    """-> all methods, ablations last."""
    return (*MAIN_METHODS, *ABLATIONS)


def check(method: str) -> None:
    """Raise SettingsError, with the nearest name, if ``method`` is unknown."""
    if method not in METHODS:
        near = get_close_matches(method, METHODS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(METHODS)}"
        raise SettingsError(f"method {method!r} is unknown; {hint}")


def load(method: str) -> Any:
    """-> the class of a method (loads torch). A class is made into a method by ``stages.create``."""
    check(method)
    module, _, name = METHODS[method].partition(":")
    return getattr(importlib.import_module(module), name)


def hyper_parameters(method: str, dataset: str, feature_set: str) -> HyperParameters:
    """-> published values; for other datasets UCF's, with a length that suits a small set; see ``origin``.

    AVCA's ablations take AVCA's, ``avgzslnet-attention`` AVGZSLNet's. Raises SettingsError for a method that has none.
    """
    check(method)
    if dataset not in PUBLISHED_DATASETS:
        small = hyper_parameters(method, "ucf", feature_set)
        # a few hundred videos: 300 batches of 64 are over a hundred passes, and validation no longer rises
        return replace(small, epochs=12, batches_per_epoch=25, batch_size=64)
    family = method.split("-")[0]
    if family == "avca":
        encoder, projection, decoder, momentum, batch = AVCA_PUBLISHED.get(
            (dataset, feature_set), AVCA_PUBLISHED[dataset, "selavi"]
        )
        return HyperParameters(batch_size=batch, weight_decay=1e-5, encoder_dropout=encoder,
                               projection_dropout=projection, decoder_dropout=decoder, momentum=momentum)
    if family == "avgzslnet":
        return HyperParameters(encoder_dropout=0.8, projection_dropout=0.5, hidden_size=1024, projection_hidden_size=64)
    if family == "cjme":
        return HyperParameters(encoder_dropout=0.0 if dataset == "vggsound" else 0.2, hidden_size=1024)
    if family == "fvaegan":
        return HyperParameters(batch_size=64, synthetic_per_class=10_000 if dataset == "vggsound" else 1000)
    if family in ("ale", "sje", "devise", "apn"):
        dropout = 0.0 if family == "apn" or dataset == "vggsound" else 0.2
        return HyperParameters(encoder_dropout=dropout, normalise_inputs=feature_set == "c3d_vggish")
    raise SettingsError(f"method {method!r} has no hyper-parameters; expected some in model/registry.py")


def origin(method: str, dataset: str, feature_set: str) -> str:
    """-> whose ``hyper_parameters`` these are, in words; ``published`` if they are this combination's own.

    f-VAEGAN has published ones for ``selavi`` only and runs elsewhere with those; so do all on features of one's own.
    """
    known = ("selavi",) if method == "fvaegan" else ("selavi", "c3d_vggish")
    features = "" if feature_set in known else " for selavi"
    return f"published{features}" if dataset in PUBLISHED_DATASETS else f"published{features} on ucf, shortened"


def specification(
    method: str, dataset: str, feature_set: str, seed: int, settings: TrainingSettings | None = None
) -> Spec:
    """-> the Spec of one training: published values, with what ``settings`` sets in their place."""
    settings = settings or TrainingSettings()
    published = vars(hyper_parameters(method, dataset, feature_set))
    values = dict(published)
    for name in values:
        chosen = getattr(settings, name, None)
        unset = -1 if name in ("weight_decay", "encoder_dropout", "projection_dropout", "decoder_dropout") else 0
        if chosen is not None and chosen != unset:
            values[name] = chosen
    changed = [f"{name} {value}" for name, value in values.items() if value != published[name]]
    whose = ", but ".join([origin(method, dataset, feature_set)] + [", ".join(changed)] * bool(changed))
    run = {name: getattr(settings, name) for name in ("device", "threads", "strict", "checkpoint_period_s")}
    return Spec(method=method, dataset=dataset, feature_set=feature_set, seed=seed, origin=whose, **values, **run)
