"""Extractors that cost nothing, for tests of what is around them."""

from __future__ import annotations

from torch import Tensor, nn

from extractors.base import Extractor
from extractors.frames import channels_first
from extractors.weights import Store


class Small(nn.Module):
    """(B, n) -> (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean(dim=1, keepdim=True))


class Brightness(Extractor):
    """(B, 16, 112, 112, 3) uint8 -> (B, 2)."""

    def __init__(self, store: Store, published: frozenset[str], dataset: str):
        super().__init__()
        self.network = store.network("c3d", Small)

    def prepare(self, clips: Tensor, valid: Tensor | None = None) -> Tensor:
        return channels_first(clips).flatten(1)


class Loudness(Extractor):
    """(B, 15600) float32 -> (B, 2)."""

    def __init__(self, store: Store, published: frozenset[str], dataset: str):
        super().__init__()
        self.network = store.network("vggish", Small)

    def prepare(self, clips: Tensor, valid: Tensor | None = None) -> Tensor:
        return clips.abs()
