"""What a training step sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """``audio`` (B, G, Da), ``video`` (B, G, Dv), ``text`` (B, G, 300): G = 0 positives, 1 negatives of another class.

    Methods without negatives get G = 1. ``row`` (B): row of the positive's class in ``class_vectors`` (C, 300), the
    training classes in ascending id.
    """

    audio: Tensor
    video: Tensor
    text: Tensor
    row: Tensor
    class_vectors: Tensor


@dataclass(frozen=True)
class TrainingData:
    """The training videos of a stage on the device. ``row`` (N): row of each video's class in ``class_vectors``."""

    audio: Tensor
    video: Tensor
    row: Tensor
    class_vectors: Tensor

    def batch(self, index: Tensor) -> Batch:
        """``index`` (B, G): video numbers -> Batch, by four index operations and no loop."""
        size, groups = index.shape
        flat = index.reshape(-1)
        row = self.row.index_select(0, flat)  # (B * G)

        def gather(values: Tensor, of: Tensor) -> Tensor:
            return values.index_select(0, of).view(size, groups, -1)

        return Batch(gather(self.audio, flat), gather(self.video, flat), gather(self.class_vectors, row),
                     row.view(size, groups)[:, 0], self.class_vectors)

    def to(self, device: torch.device) -> TrainingData:
        return TrainingData(*(value.to(device) for value in (self.audio, self.video, self.row, self.class_vectors)))
