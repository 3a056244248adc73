"""C3D features: fc7 on 16 frames."""

from __future__ import annotations

import torch
from torch import Tensor

from extractors.base import Extractor
from extractors.frames import c3d_frames
from extractors.networks.c3d import C3DNetwork
from extractors.weights import Store


class C3D(Extractor):
    """(B, 16, 112, 112, 3) uint8 RGB -> (B, 4096) float32, >= 0, fc7 after its ReLU, not normalised.

    Deviations: ``c3d_colour`` (published: channels B, G, R; on UCF and VGGSound also negated, which decoding has done
    by now: plan ``c3d_frames_negative``) and ``c3d_scale`` (published: Kinetics statistics instead of 0..255, which is
    what the weights were trained on). Frames that a clip lacks are 0.0 after scaling.
    """

    def __init__(self, store: Store, published: frozenset[str], dataset: str):
        super().__init__()
        self.network = store.network("c3d", C3DNetwork, ignored=("fc8.",))
        self.published_colour = "c3d_colour" in published
        self.published_scale = "c3d_scale" in published

    def prepare(self, clips: Tensor, valid: Tensor | None = None) -> Tensor:
        if valid is None:
            valid = torch.full((len(clips),), clips.shape[1], dtype=torch.int32)
        return c3d_frames(clips, valid, self.published_colour, self.published_scale)
