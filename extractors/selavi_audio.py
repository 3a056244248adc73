"""SeLaVi's audio features: ResNet-9 on the log mel spectrogram of one second at 44.1 kHz."""

from __future__ import annotations

from torch import Tensor

from extractors.audio import selavi_spectrogram
from extractors.base import Extractor
from extractors.networks.resnet9 import resnet9_trunk
from extractors.weights import Store


class SelaviAudio(Extractor):
    """(B, 44100) float32 in the scale of int16 -> (B, 512) float32, >= 0, before any head, not normalised."""

    def __init__(self, store: Store, published: frozenset[str], dataset: str):
        super().__init__()
        self.network = store.network(
            "selavi", resnet9_trunk, prefix="audio_network.base.", ignored=("video_network.", "mlp_")
        )

    def prepare(self, clips: Tensor, valid: Tensor | None = None) -> Tensor:
        return selavi_spectrogram(clips)
