"""Methods that embed videos and classes into one space: what such a model declares, and the Method made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from model.batches import Batch
from model.protocol import Benchmark, Fit, Scores, Stage, State
from model.settings import Spec

ROWS_AT_A_TIME = 8192


@dataclass(frozen=True)
class Sizes:
    """Widths of the audio and the video features."""

    audio: int
    video: int


class EmbeddingModel(nn.Module):
    """Base of the models that share one trainer.

    ``outputs``: predictions, the standard first. ``calibration_branches``: the outputs whose best betas the released
    code averages for the test. ``negatives``: whether a batch holds videos of other classes as well.
    ``released``: whether the released code knows its state (``published_keys``).
    ``statistics_matter``: set by the trainer; False where passes that only move running statistics are forgotten again
    before anything reads them.
    """

    outputs: ClassVar[tuple[str, ...]]
    calibration_branches: ClassVar[tuple[str, ...]]
    negatives: ClassVar[bool]
    calibrated: ClassVar[bool] = True
    released: ClassVar[bool] = True
    statistics_matter: bool = True

    def __init__(self) -> None:
        super().__init__()

    def trained(self) -> Iterator[nn.Parameter]:
        """Parameters that the optimiser gets."""
        yield from self.parameters()

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """-> scalar terms by name; the loss is their sum."""
        raise NotImplementedError

    def after_step(self, batch: Batch) -> None:
        """What follows the optimiser's step; nothing unless a model says so."""

    def embed(self, audio: Tensor, video: Tensor) -> dict[str, Tensor]:
        """(N, Da), (N, Dv) -> what ``distances`` needs of the videos, (N, ...) each."""
        raise NotImplementedError

    def embed_classes(self, vectors: Tensor) -> Tensor:
        """(C, 300) -> (C, k)."""
        raise NotImplementedError

    def distances(self, embedded: dict[str, Tensor], classes: Tensor) -> dict[str, Tensor]:
        """-> output -> (N, C)."""
        raise NotImplementedError

    def embedding(self, embedded: dict[str, Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
        """-> (N, k), (C, k): what the standard output compares, for plots."""
        raise NotImplementedError

    @classmethod
    def published_keys(cls) -> dict[str, str]:
        """-> our module or parameter path -> the one in the released state dict."""
        raise NotImplementedError


class EmbeddingMethod:
    """A Method (model.protocol) out of an EmbeddingModel."""

    def __init__(self, model_class: type[EmbeddingModel], spec: Spec, published: frozenset[str]):
        self.model_class, self.spec, self.published = model_class, spec, published
        self.outputs = model_class.outputs
        self.calibrated = model_class.calibrated

    def build(self, sizes: Sizes) -> EmbeddingModel:
        """-> a fresh model, drawn from the global generator."""
        return self.model_class(sizes, self.spec, self.published)  # type: ignore[call-arg, arg-type]

    def fit(self, benchmark: Benchmark, stage: Stage, generator: torch.Generator, checkpoint: Path | None) -> Fit:
        from model.training import train

        return train(self, benchmark, stage, generator, checkpoint)

    def scores(
        self, state: State, audio: np.ndarray, video: np.ndarray, class_vectors: np.ndarray, classes: Sequence[int]
    ) -> Scores:
        model = self.build(Sizes(audio.shape[1], video.shape[1]))
        load_state(model, state)
        device = resolve_device(self.spec.device)
        model.to(device).eval()
        with torch.no_grad():
            rows = torch.arange(len(audio))
            vectors = torch.from_numpy(class_vectors).to(device)
            embedded = embed_rows(model, torch.from_numpy(audio), torch.from_numpy(video), rows, device)
            embedded_classes = model.embed_classes(vectors)
            distances = model.distances(embedded, embedded_classes)
            videos, labels = model.embedding(embedded, embedded_classes)
        return Scores({name: value.cpu().numpy() for name, value in distances.items()}, videos.cpu().numpy(),
                      labels.cpu().numpy())


def embed_rows(
    model: EmbeddingModel, audio: Tensor, video: Tensor, rows: Tensor, device: torch.device
) -> dict[str, Tensor]:
    """-> embeddings of these rows, a bounded number at a time: wide features are never copied whole."""
    parts = [model.embed(audio[part].to(device), video[part].to(device)) for part in rows.split(ROWS_AT_A_TIME)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def resolve_device(name: str) -> torch.device:
    """-> the device of a setting; auto is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def state_of(model: nn.Module) -> State:
    """-> parameters and buffers as arrays of their own."""
    return {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}


def load_state(model: nn.Module, state: State) -> None:
    """Fill the model; raises RuntimeError (PyTorch's) for a missing, unknown or misshapen entry."""
    own = model.state_dict()
    model.load_state_dict({
        name: torch.from_numpy(np.asarray(value)).to(own[name].dtype if name in own else torch.float32)
        for name, value in state.items()
    })
