"""SeLaVi's video features: R(2+1)D-18 on 30 frames of one second."""

from __future__ import annotations

from torch import Tensor

from extractors.base import Extractor
from extractors.frames import selavi_frames
from extractors.networks.r2plus1d import r2plus1d_18_trunk
from extractors.weights import Store


class SelaviVideo(Extractor):
    """(B, 30, 112, 112, 3) uint8 RGB -> (B, 512) float32, >= 0, before any head, not normalised.

    The published file also holds the audio trunk and ten clustering heads (``mlp_*``); neither is read here.
    """

    def __init__(self, store: Store, published: frozenset[str], dataset: str):
        super().__init__()
        self.network = store.network(
            "selavi", r2plus1d_18_trunk, prefix="video_network.base.", ignored=("audio_network.", "mlp_")
        )

    def prepare(self, clips: Tensor, valid: Tensor | None = None) -> Tensor:
        return selavi_frames(clips)
