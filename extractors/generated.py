"""Weights from a recipe, for the demo and for tests: untrained networks whose features still tell inputs apart.

A tensor is a function of its name and shape; nothing is trained and nothing depends on data. Normalisation layers are
the identity, biases zero, filters normal with the scale of He et al. (ICCV 2015), at which a deep stack of ReLUs keeps
small differences between inputs at their size. Two things keep those differences ones that matter:

* a filter that sees the input (1 or 3 channels) sums to zero: it answers to edges, contrasts of colour and changes, not
  to brightness or loudness, which would otherwise be almost all that the network passes on;
* filters are weighted towards their middle, so that a picture or spectrogram shifted a little gives much the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np

VERSION = 1
# Standard deviations of the Gaussian over a filter's taps, in taps.
INPUT_SPREAD, SPREAD = 2.0, 0.7


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
    sees_input = len(shape) > 2 and shape[1] in (1, 3)
    taps = window(shape[2:], INPUT_SPREAD if sees_input else SPREAD)
    values = generator.standard_normal(shape, dtype=np.float32)
    values *= taps * np.float32(math.sqrt(2 / (shape[1] * float(np.square(taps).sum()))))
    if sees_input:
        values -= values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
    return values


def window(kernel: tuple[int, ...], spread: float) -> np.ndarray:
    """-> Gaussian over a filter's taps, 1 in the middle, float32, in the shape of the kernel; () for linear layers."""
    weights = np.ones((), np.float32)
    for size in kernel:
        taps = np.arange(size, dtype=np.float32) - (size - 1) / 2
        weights = np.multiply.outer(weights, np.exp(-(taps**2) / (2 * spread**2)))
    return weights.astype(np.float32)


def pca(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """-> stand-ins for PCA parameters, float64: an orthogonal matrix for each square shape, zeros for each vector."""
    made = {}
    for name, shape in shapes.items():
        values = tensor(f"pca.{name}", shape).astype(np.float64)
        made[name] = np.linalg.qr(values)[0] if len(shape) == 2 else values
    return made
