"""Files that hold a model: our own training checkpoints, and the released ``*_score.pt``."""

from __future__ import annotations

import hashlib
import io
import logging
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
from pipeline.storage import partial_path, remove_stale_partials

logger = logging.getLogger(__name__)
CHECKSUM_BYTES = 32


def identity(spec: Spec, published: frozenset[str], stage: Stage, content: str) -> str:
    """-> what a training checkpoint must agree with to be taken up. Another GPU of the machine may go on with it."""
    facts = {"spec": spec.content(), "device": spec.device.partition(":")[0], "published": published,
             "content": content, "stage": stage.number, "epochs": stage.epochs, "rates": stage.learning_rates,
             "rows": stage.rows.tolist(), "torch": torch.__version__}
    return digest(facts)


class TrainingCheckpoint:
    """The state of a training between two epochs, in one file that is there whole or not at all.

    The file is a sha256 and what it was taken of. ``path`` None: nothing is kept. A file that belongs to other settings
    or data, or is damaged, is told and overwritten: the training starts from its beginning, to the same numbers.
    """

    def __init__(self, path: Path | None, belongs_to: str, period_s: float):
        self.path, self.belongs_to, self.period_s = Path(path) if path else None, belongs_to, period_s
        self.written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        if self.path is None or not self.path.is_file():
            return None
        data = self.path.read_bytes()
        checksum, content = data[:CHECKSUM_BYTES], data[CHECKSUM_BYTES:]
        if hashlib.sha256(content).digest() != checksum:
            logger.warning("%s is damaged: this stage is trained from its beginning", self.path)
            return None
        kept = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if kept["belongs_to"] != self.belongs_to:
            logger.warning("%s is of another training: this stage is trained from its beginning", self.path)
            return None
        return kept["state"]

    def save(self, state: dict[str, Any], last: bool) -> None:
        """Write unless the last one is younger than the period; a training that is over needs none."""
        now = time.monotonic()
        if self.path is None or last or now - self.written < self.period_s:
            return
        content = serialised({"belongs_to": self.belongs_to, "state": state})
        write_whole(self.path, hashlib.sha256(content).digest() + content)
        self.written = now


def serialised(content: dict[str, Any]) -> bytes:
    """torch.save to memory: on a full disk it would hide the reason."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def write_whole(path: Path, data: bytes) -> None:
    """To a sibling, flushed to disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_partials(path)
    sibling = partial_path(path)
    try:
        with open(sibling, "wb") as file:
            file.write(data)
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
    content = {"epoch": epoch + 1, "model": model, "optimizer": {}, "metric": "score"}
    write_whole(Path(path), serialised(content))
