"""What ALE, SJE and DEVISE share: one linear map of [video, audio] (**video first**) to the space of class vectors.

Trained on dot products, evaluated by L2 distance, as released. Dropout falls on the features and, in training, on the
class vectors. The released module projects the same features twice; once gives the same numbers.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.batches import Batch
from model.embedding import EmbeddingModel, Sizes
from model.layers import Dropout
from model.settings import EMBEDDING_SIZE, Spec

MARGIN = 0.1


class ToClassVectors(EmbeddingModel):
    """What embeds videos among the class vectors as they are; a batch has no negatives. Subclasses ``embed``."""

    outputs: ClassVar[tuple[str, ...]] = ("projection",)
    calibration_branches: ClassVar[tuple[str, ...]] = ("projection",) * 3
    negatives: ClassVar[bool] = False

    def embed_classes(self, vectors: Tensor) -> Tensor:
        return vectors

    def distances(self, embedded: dict[str, Tensor], classes: Tensor) -> dict[str, Tensor]:
        return {"projection": torch.cdist(embedded["projection"], classes)}

    def embedding(self, embedded: dict[str, Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
        return embedded["projection"], classes


class Bilinear(ToClassVectors):
    """Subclasses weigh the hinges."""

    def __init__(self, sizes: Sizes, spec: Spec, published: frozenset[str]):
        super().__init__()
        self.normalise = spec.normalise_inputs
        self.bilinear = nn.Linear(sizes.video + sizes.audio, EMBEDDING_SIZE, bias=False)
        self.dropout = Dropout(spec.encoder_dropout)

    def project(self, audio: Tensor, video: Tensor) -> Tensor:
        """(N, Da), (N, Dv) -> (N, 300)."""
        return self.bilinear(self.dropout(joined(audio, video, self.normalise)))

    def logits(self, batch: Batch) -> Tensor:
        """-> compatibility of each positive with each training class (B, C)."""
        vectors = self.dropout(batch.class_vectors)
        return self.project(batch.audio[:, 0], batch.video[:, 0]) @ vectors.T

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        hinges = hinges_of(self.logits(batch), batch.row)  # (B, C)
        return {"hinge": self.weigh(hinges) / len(hinges)}

    def weigh(self, hinges: Tensor) -> Tensor:
        """(B, C) hinges, 0 for the true class -> their weighted sum over the batch."""
        raise NotImplementedError

    def embed(self, audio: Tensor, video: Tensor) -> dict[str, Tensor]:
        return {"projection": self.project(audio, video)}

    @classmethod
    def published_keys(cls) -> dict[str, str]:
        return {"bilinear": "bilinear"}


def joined(audio: Tensor, video: Tensor, normalise: bool) -> Tensor:
    """-> [video, audio] (N, Dv + Da), divided by its L2 norm if ``normalise``."""
    features = torch.cat((video, audio), dim=1)
    return functional.normalize(features) if normalise else features


def hinges_of(scores: Tensor, row: Tensor) -> Tensor:
    """(B, C) scores, (B) true classes -> max(0, margin + score - true score), 0 for the true class itself."""
    true = scores.gather(1, row[:, None])
    return torch.relu(MARGIN + scores - true).scatter(1, row[:, None], 0.0)
