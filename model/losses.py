"""Loss terms. Every one is a mean over the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

TRIPLET_EPSILON = 1e-6


def pair_distances(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """P pairs of (B, F) -> (P, B): L2 norm of a - b + 1e-6, as in torch.nn.TripletMarginLoss; not symmetric."""
    return torch.linalg.vector_norm(torch.stack(tuple(a)) - torch.stack(tuple(b)) + TRIPLET_EPSILON, dim=2)


def triplet_terms(triplets: dict[str, tuple[Tensor, Tensor, Tensor]], margin: float = 1.0) -> dict[str, Tensor]:
    """name -> (anchor, positive, negative), (B, F) each; -> name -> mean of max(0, d(a, p) - d(a, n) + margin).

    A distance that several triplets share is made once. Per-sample hinges: ``triplet_hinges``.
    """
    return dict(zip(triplets, triplet_hinges(triplets, margin).mean(1).unbind(), strict=True))


def triplet_hinges(triplets: dict[str, tuple[Tensor, Tensor, Tensor]], margin: float = 1.0) -> Tensor:
    """-> (triplets, B): the hinges before their mean."""
    pairs: dict[tuple[int, int], int] = {}
    left: list[Tensor] = []
    right: list[Tensor] = []
    positive: list[int] = []
    negative: list[int] = []
    for anchor, near, far in triplets.values():
        for other, where in ((near, positive), (far, negative)):
            key = (id(anchor), id(other))
            if key not in pairs:
                pairs[key] = len(left)
                left.append(anchor)
                right.append(other)
            where.append(pairs[key])
    distance = pair_distances(left, right)  # (pairs, B)
    near_distance = torch.stack([distance[i] for i in positive])  # (triplets, B)
    far_distance = torch.stack([distance[i] for i in negative])
    return torch.relu(near_distance - far_distance + margin)


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """d(a, b) of the paper's equations: mean over batch and dimensions."""
    return functional.mse_loss(a, b)
