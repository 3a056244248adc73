"""DEVISE (Frome et al., NIPS 2013): the sum of all hinges."""

from __future__ import annotations

from torch import Tensor

from model.baselines.bilinear import Bilinear


class DEVISE(Bilinear):
    def weigh(self, hinges: Tensor) -> Tensor:
        return hinges.sum()
