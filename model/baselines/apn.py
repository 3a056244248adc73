"""APN (Xu et al., NeurIPS 2020) on features: two linear maps of [video, audio] (**video first**) to class vectors.

The attribute and compactness terms of the original need feature maps and are absent, as released. The second map trains
only itself; the first predicts, by L2 distance.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from model.baselines.bilinear import ToClassVectors, joined
from model.batches import Batch
from model.embedding import Sizes
from model.losses import squared_error
from model.settings import EMBEDDING_SIZE, Spec

INITIAL_LARGEST = 2e-4


class APN(ToClassVectors):
    def __init__(self, sizes: Sizes, spec: Spec, published: frozenset[str]):
        super().__init__()
        self.normalise = spec.normalise_inputs
        self.softmax_first = "apn_softmax" in published
        width = sizes.video + sizes.audio
        self.final = nn.Linear(width, EMBEDDING_SIZE, bias=False)
        self.prototype = nn.Linear(width, EMBEDDING_SIZE, bias=False)
        for layer in (self.final, self.prototype):
            nn.init.uniform_(layer.weight, 0.0, INITIAL_LARGEST)

    def project(self, audio: Tensor, video: Tensor) -> dict[str, Tensor]:
        """(N, Da), (N, Dv) -> (N, 300) by each map."""
        features = joined(audio, video, self.normalise)
        return {"final": self.final(features), "layer4": self.prototype(features)}

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        terms = {}
        for name, projected in self.project(batch.audio[:, 0], batch.video[:, 0]).items():
            scores = self.scores(projected, batch.class_vectors)
            terms[f"xe_{name}"] = functional.cross_entropy(scores, batch.row)
            terms[f"mse_{name}"] = squared_error(projected, batch.text[:, 0])
        return terms

    def scores(self, projected: Tensor, class_vectors: Tensor) -> Tensor:
        """-> (B, C). apn_softmax: the released cross-entropy gets what already is a softmax."""
        scores = projected @ class_vectors.T
        return scores.softmax(dim=1) if self.softmax_first else scores

    def embed(self, audio: Tensor, video: Tensor) -> dict[str, Tensor]:
        return {"projection": self.final(joined(audio, video, self.normalise))}

    @classmethod
    def published_keys(cls) -> dict[str, str]:
        return {"final.weight": "ALE_vector", "prototype.weight": "prototype_vectors.layer4"}

    @staticmethod
    def published_shape(name: str, value: np.ndarray) -> np.ndarray:
        """The released maps are 1x1 convolutions."""
        return value[:, :, None, None]
