"""Weights from a recipe, for the demo and for tests: untrained networks whose features still tell inputs apart.

A deep network with plain random weights answers almost the same to every input: each ReLU adds to a common positive
part that the next layer carries on, and what differs between inputs is a few per cent of it. Here every filter's
weights sum to zero, so that the common part is dropped at each layer and differences (of colour, texture, motion,
pitch, timbre, rhythm) keep their share. Scale: He et al., ICCV 2015. Normalisation layers are the identity, biases
zero. Nothing is trained and nothing depends on data: a tensor is a function of its name and shape.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np

VERSION = 1


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """-> the tensor of this state-dict key; float32, int64 for counters."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    if name.endswith("running_var") or (name.endswith(".weight") and len(shape) == 1):
        return np.ones(shape, dtype=np.float32)
    if len(shape) < 2:
        return np.zeros(shape, dtype=np.float32)
    digest = hashlib.sha256(f"{VERSION} {name}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:8], "little")))
    values = generator.standard_normal(shape, dtype=np.float32).reshape(shape[0], -1)
    values -= values.mean(axis=1, keepdims=True)
    values *= math.sqrt(2 / values.shape[1])
    return values.reshape(shape)


def pca(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """-> stand-ins for PCA parameters, float64: an orthogonal matrix for each square shape, zeros for each vector."""
    made = {}
    for name, shape in shapes.items():
        values = tensor(f"pca.{name}", shape).astype(np.float64)
        made[name] = np.linalg.qr(values)[0] if len(shape) == 2 else values
    return made
