"""Files that hold a model: our own training checkpoints, and the released ``*_score.pt``."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model import registry
from model.embedding import EmbeddingModel, Sizes, state_of
from model.protocol import Stage, State
from model.settings import Spec
from pipeline.errors import PipelineError, WeightsError
from pipeline.provenance import digest

# These do not change the numbers.
IDLE_SETTINGS = ("strict", "bootstrap_resamples", "checkpoint_period_s")


def identity(spec: Spec, published: frozenset[str], stage: Stage, content: str) -> str:
    """-> what a training checkpoint must agree with to be taken up."""
    settings = {name: value for name, value in vars(spec).items() if name not in IDLE_SETTINGS}
    facts = {"spec": settings, "published": published, "content": content, "stage": stage.number,
             "epochs": stage.epochs, "rates": stage.learning_rates, "rows": stage.rows.tolist(),
             "torch": torch.__version__}
    return digest(facts)


class TrainingCheckpoint:
    """The state of a training between two epochs, in one file that is there whole or not at all.

    ``path`` None: nothing is kept. One that belongs to other settings or data, or that can't be read, is ignored and
    overwritten: the training then starts from its beginning, which gives the same numbers.
    """

    def __init__(self, path: Path | None, belongs_to: str, period_s: float):
        self.path, self.belongs_to, self.period_s = path, belongs_to, period_s
        self.written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        if self.path is None or not Path(self.path).is_file():
            return None
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError):
            return None
        return kept["state"] if isinstance(kept, dict) and kept.get("belongs_to") == self.belongs_to else None

    def save(self, state: dict[str, Any], last: bool) -> None:
        """Write unless the last one is younger than the period; a training that is over needs none."""
        now = time.monotonic()
        if self.path is None or last or now - self.written < self.period_s:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, {"belongs_to": self.belongs_to, "state": state})
        self.written = now


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """torch.save to a sibling, flushed to disk, then renamed."""
    sibling = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(sibling, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(sibling, path)
    finally:
        sibling.unlink(missing_ok=True)


def published_name(name: str, keys: dict[str, str]) -> str:
    """-> the released key of one of our state entries."""
    if name in keys:
        return keys[name]
    module, _, leaf = name.rpartition(".")
    return f"{keys[module]}.{leaf}"


def to_published(model_class: type[EmbeddingModel], state: State) -> State:
    """-> the same values under the released keys and shapes."""
    keys = model_class.published_keys()
    shaped = getattr(model_class, "published_shape", lambda name, value: value)
    return {published_name(name, keys): shaped(name, value) for name, value in state.items()}


def from_published(model_class: type[EmbeddingModel], expected: State, found: State, where: str) -> State:
    """``expected``: a state of ours with the right shapes; -> it, with the values ``found`` under released keys.

    Raises WeightsError for a missing or unknown key or another shape.
    """
    keys = model_class.published_keys()
    ours = {published_name(name, keys): name for name in expected}
    missing, unknown = sorted(set(ours) - set(found)), sorted(set(found) - set(ours))
    if missing or unknown:
        raise WeightsError(
            f"{where}: found {len(found)} tensors, missing {missing[:3] or 'none'}, unknown {unknown[:3] or 'none'}; "
            f"expected the {len(ours)} of {model_class.__name__}; give a checkpoint of that method"
        )
    out = {}
    for key, name in ours.items():
        value = np.asarray(found[key])
        if value.size != expected[name].size or value.shape[: expected[name].ndim] != expected[name].shape:
            raise WeightsError(
                f"{where}: {key} has shape {value.shape}, expected {expected[name].shape}; the checkpoint belongs to "
                "features of another width"
            )
        out[name] = value.reshape(expected[name].shape).astype(expected[name].dtype)
    return out


def released_model(method: str) -> type[EmbeddingModel]:
    """-> the model of a method whose checkpoints the released code knows. Raises PipelineError for any other."""
    model_class = registry.load(method)
    if not (isinstance(model_class, type) and issubclass(model_class, EmbeddingModel) and model_class.released):
        raise PipelineError(
            f"method {method}: the released code has no checkpoint of it; expected avca, one of its ablations, or one "
            "of the embedding baselines"
        )
    return model_class


def import_published(
    path: Path, spec: Spec, published: frozenset[str], audio: int, video: int
) -> tuple[State, int]:
    """-> state and 0-based epoch of a released ``*_score.pt`` (model, optimizer, epoch, metric).

    ``audio``, ``video``: widths of the features. Read with weights_only. Raises WeightsError if it is no such file, or
    of another method or width, PipelineError for a method that has none.
    """
    model_class = released_model(spec.method)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{path}: {type(error).__name__} on reading it as plain tensors; expected a released *_score.pt, which "
            "holds nothing else"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise WeightsError(f"{path}: found no entry 'model', expected a released *_score.pt")
    found = {key.removeprefix("module."): value.numpy() for key, value in content["model"].items()}
    with torch.random.fork_rng(devices=[]):
        expected = state_of(model_class(Sizes(audio, video), spec, published))  # type: ignore[call-arg, arg-type]
    return from_published(model_class, expected, found, str(path)), int(content.get("epoch", 1)) - 1


def export_published(path: Path, spec: Spec, state: State, epoch: int) -> None:
    """Write ``state`` as the released code's ``*_score.pt``; ``epoch`` 0-based (the file holds epoch + 1)."""
    model_class = released_model(spec.method)
    model = {key: torch.from_numpy(np.array(value)) for key, value in to_published(model_class, state).items()}
    write_whole(Path(path), {"epoch": epoch + 1, "model": model, "optimizer": {}, "metric": "score"})
