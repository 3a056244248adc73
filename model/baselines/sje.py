"""SJE (Akata et al., CVPR 2015): only the class that violates the margin most."""

from __future__ import annotations

from torch import Tensor

from model.baselines.bilinear import Bilinear


class SJE(Bilinear):
    def weigh(self, hinges: Tensor) -> Tensor:
        return hinges.max(dim=1).values.sum()
