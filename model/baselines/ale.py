"""ALE (Akata et al., TPAMI 2016): a sample with r violating classes weighs its hinges with H(r) / r."""

from __future__ import annotations

import torch
from torch import Tensor

from model.baselines.bilinear import Bilinear
from model.embedding import Sizes
from model.settings import Spec


class ALE(Bilinear):
    harmonic: Tensor

    def __init__(self, sizes: Sizes, spec: Spec, published: frozenset[str]):
        super().__init__(sizes, spec, published)
        self.register_buffer("harmonic", harmonic_numbers(1), persistent=False)

    def weigh(self, hinges: Tensor) -> Tensor:
        classes = hinges.shape[1]
        if len(self.harmonic) <= classes:
            self.harmonic = harmonic_numbers(classes).to(hinges.device)
        rank = (hinges > 0).sum(dim=1)  # (B)
        weight = self.harmonic[rank].to(hinges.dtype) / (rank.to(hinges.dtype) + 1e-8)  # (B)
        return (hinges * weight[:, None]).sum()


def harmonic_numbers(count: int) -> Tensor:
    """-> H(0) = 0 to H(count), float32 whatever the model computes in, as released: 5e-8 off in double precision."""
    reciprocal = 1 / torch.arange(1, count + 1, dtype=torch.float32)
    return torch.cat((torch.zeros(1), reciprocal.cumsum(0)))
