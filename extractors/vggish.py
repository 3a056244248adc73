"""VGGish features: the embedding of one example of 0.96 s, or its 8-bit code."""

from __future__ import annotations

import torch
from torch import Tensor

from extractors.audio import vggish_codes, vggish_examples, vggish_log_mel
from extractors.base import Extractor
from extractors.networks.vggish import VGGishNetwork
from extractors.weights import Store


class VGGish(Extractor):
    """(B, 15600) float32 at 16 kHz in [-1, 1] -> (B, 128) float32, one example a clip.

    Deviation ``vggish_codes``: published: PCA, clipped to 2, 8-bit codes 0..255 by truncation; corrected: the embedding
    after its ReLU, >= 0.
    """

    def __init__(self, store: Store, published: frozenset[str], dataset: str):
        super().__init__()
        self.network = store.network("vggish", VGGishNetwork, renamed={"embeddings.": "fc."})
        self.eigenvectors: Tensor
        self.means: Tensor
        self.codes = "vggish_codes" in published
        if self.codes:
            pca = store.arrays("vggish_pca", {"pca_eigen_vectors": (128, 128), "pca_means": (128,)})
            self.register_buffer("eigenvectors", pca["pca_eigen_vectors"])
            self.register_buffer("means", pca["pca_means"])

    def prepare(self, clips: Tensor, valid: Tensor | None = None) -> Tensor:
        return vggish_examples(vggish_log_mel(clips))  # (B, 1, 96, 64): the one example takes the channel's place

    def finish(self, features: Tensor) -> Tensor:
        return vggish_codes(features, self.eigenvectors, self.means) if self.codes else features.to(torch.float32)
