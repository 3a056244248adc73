"""The resampler behind the published VGGish features: filter ``kaiser_best`` of resampy 0.2.2, from its definition.

Later releases of resampy have another filter (features differ by up to 3 codes of 255), hence our own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ZERO_CROSSINGS = 64
STEPS = 512
ROLL_OFF = 0.9475937167399596
BETA = 14.769656459379492
BLOCK = 1 << 16


class RawFile:
    """Samples of a raw little-endian float32 file, read piece by piece: a memory map of it would count as memory."""

    def __init__(self, path: Path):
        self.path, self.length = path, path.stat().st_size // 4

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.length)
        return np.fromfile(self.path, "<f4", max(stop - start, 0), offset=4 * start)


@functools.cache
def half_window() -> np.ndarray:
    """-> (64 * 512 + 1,) float64: right half of r sinc(r t) kaiser(t), at 512 steps a zero crossing."""
    count = ZERO_CROSSINGS * STEPS
    time = np.linspace(0, ZERO_CROSSINGS, count + 1)
    return ROLL_OFF * np.sinc(ROLL_OFF * time) * np.kaiser(2 * count + 1, BETA)[count:]


def side_filter(offset: int, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """-> (weights, their slopes) of the samples on one side of an output, nearest first, for a position of ``offset``
    whole table steps from the nearest: the weights at position offset + eta (0 <= eta < 1) are weights + eta * slopes.

    The table is walked in whole steps int(scale * 512), although scale * 512 is not whole.
    """
    scale = min(1.0, ratio)
    table = half_window()
    step = int(scale * STEPS)
    entries = offset + step * np.arange((len(table) - offset) // step)
    following = table[np.minimum(entries + 1, len(table) - 1)]
    return scale * table[entries], scale * (following - table[entries])


def resample(x: np.ndarray | RawFile, rate: int, target: int = 16000) -> np.ndarray:
    """(n,) real -> (int(n * target / rate),) float64: ``x`` at ``target`` Hz.

    The time of each output is accumulated in float64, one by one, as the original does: where it should meet an input
    sample it may fall just short, and the sample before is then the centre. ``x`` is read in blocks (a ``RawFile``
    will do); beyond its ends it is silence.
    """
    return np.concatenate(list(resample_blocks(x, rate, target)) or [np.zeros(0)])


def resample_blocks(x: np.ndarray | RawFile, rate: int, target: int = 16000) -> Iterator[np.ndarray]:
    """``resample`` piece by piece, in bounded memory."""
    if rate == target:
        for start in range(0, len(x), BLOCK):
            yield np.asarray(x[start:start + BLOCK], np.float64)
        return
    ratio = float(target) / rate
    scale = min(1.0, ratio)
    reach = len(half_window()) // int(scale * STEPS) + 2
    length = int(len(x) * ratio)
    filters: dict[int, np.ndarray] = {}
    time = 0.0
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        increments = np.full(stop - start + 1, 1.0 / ratio)
        increments[0] = time
        times = np.cumsum(increments)
        time = float(times[-1])
        centres = times[:-1].astype(np.int64)
        fractions = scale * (times[:-1] - centres)
        base = int(centres[0]) - reach
        block = padded(x, base, int(centres[-1]) + reach + 2)
        yield filtered(block, centres - base, fractions, ratio, reach, filters)


def padded(x: np.ndarray | RawFile, start: int, stop: int) -> np.ndarray:
    """-> x[start:stop] as float64, zeros where it reaches beyond either end."""
    inside = np.asarray(x[max(start, 0):max(stop, 0)], np.float64)
    before = max(-start, 0)
    return np.pad(inside, (before, stop - start - before - len(inside)))


def filtered(
    block: np.ndarray, centres: np.ndarray, fractions: np.ndarray, ratio: float, reach: int,
    filters: dict[int, np.ndarray],
) -> np.ndarray:
    """-> one output per centre, from the samples up to it (``fractions`` away, in scaled time) and those beyond it.

    Outputs whose two sides start at the same table steps share three filters of 2 * reach taps: the weights, and their
    slopes on either side.
    """
    windows = np.lib.stride_tricks.sliding_window_view(block, 2 * reach)
    left = fractions * STEPS
    right = (min(1.0, ratio) - fractions) * STEPS
    keys = left.astype(np.int64) * (STEPS + 1) + right.astype(np.int64)
    order = np.argsort(keys, kind="stable")
    unique, first = np.unique(keys[order], return_index=True)
    out = np.empty(len(centres))
    for key, rows in zip(unique.tolist(), np.split(order, first[1:]), strict=True):
        if key not in filters:
            filters[key] = both_sides(key // (STEPS + 1), key % (STEPS + 1), ratio, reach)
        base, rise, fall = (windows[centres[rows] - reach + 1] @ filters[key]).T
        out[rows] = base + (left[rows] % 1) * rise + (right[rows] % 1) * fall
    return out


def both_sides(left: int, right: int, ratio: float, reach: int) -> np.ndarray:
    """-> (2 * reach, 3) float64: weights, slopes on the left, slopes on the right; the centre is tap reach - 1."""
    taps = np.zeros((2 * reach, 3))
    weights, slopes = side_filter(left, ratio)
    taps[reach - len(weights):reach, 0] = weights[::-1]
    taps[reach - len(weights):reach, 1] = slopes[::-1]
    weights, slopes = side_filter(right, ratio)
    taps[reach:reach + len(weights), 0] = weights
    taps[reach:reach + len(weights), 2] = slopes
    return taps
