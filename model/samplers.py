"""Class-balanced sampling of a whole epoch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassBalanced:
    """Videos drawn class uniform, then video uniform in it, with replacement; negatives from another class.

    ``order`` (N): video numbers sorted by class; class k of K owns order[start[k] : start[k] + count[k]].
    A class with a single video is drawn like any other.
    """

    order: Tensor
    start: Tensor
    count: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> ClassBalanced:
        """``labels`` (N) int64: any ids, of two or more classes."""
        order = torch.argsort(labels, stable=True)
        _, count = torch.unique(labels, return_counts=True)
        return cls(order, count.cumsum(0) - count, count)

    def epoch(self, batches: int, size: int, generator: torch.Generator, negatives: bool = True) -> Tensor:
        """-> video numbers (batches, size, G): G = 0 positive, 1 (with ``negatives``) a video of another class.

        Drawn on the CPU, so that the batches do not depend on the device.
        """
        classes = len(self.count)
        positive = torch.randint(classes, (batches, size), generator=generator)
        drawn = [positive]
        if negatives:
            other = torch.randint(classes - 1, (batches, size), generator=generator)
            drawn.append(other + (other >= positive))
        chosen = torch.stack(drawn, dim=2)  # (batches, size, G) class numbers
        share = torch.rand(chosen.shape, generator=generator, dtype=torch.float64)
        within = (share * self.count[chosen]).long()
        return self.order[self.start[chosen] + within]
