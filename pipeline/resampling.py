"""The resampler behind the published VGGish features: resampy 0.2.2, filter ``kaiser_best``, rebuilt from its definition.

Later releases of resampy have another filter (features differ by up to 3 codes of 255), hence our own.
"""

from __future__ import annotations

import functools

import numpy as np

ZERO_CROSSINGS = 64
STEPS = 512
ROLL_OFF = 0.9475937167399596
BETA = 14.769656459379492
BLOCK = 1 << 16


@functools.cache
def half_window() -> np.ndarray:
    """-> (64 * 512 + 1,) float64: right half of r sinc(r t) kaiser(t), at 512 steps a zero crossing."""
    count = ZERO_CROSSINGS * STEPS
    time = np.linspace(0, ZERO_CROSSINGS, count + 1)
    return ROLL_OFF * np.sinc(ROLL_OFF * time) * np.kaiser(2 * count + 1, BETA)[count:]


def side_weights(fraction: float, ratio: float) -> np.ndarray:
    """-> weights of the samples on one side of an output that lies ``fraction`` (0..1, in scaled time) beyond the first.

    The table is walked in whole steps int(scale * 512), with linear interpolation between its entries.
    """
    scale = min(1.0, ratio)
    table = half_window()
    step = int(scale * STEPS)
    position = fraction * STEPS
    offset = int(position)
    entries = offset + step * np.arange((len(table) - offset) // step)
    following = table[np.minimum(entries + 1, len(table) - 1)]
    return scale * (table[entries] + (position - offset) * (following - table[entries]))


def resample(x: np.ndarray, rate: int, target: int = 16000) -> np.ndarray:
    """(n,) real -> (int(n * target / rate),) float64: ``x`` at ``target`` Hz.

    The time of each output is accumulated in float64, one by one, as the original does: where it should meet an input
    sample it may fall just short, and the sample before is then the centre. ``x`` is read in blocks (a memory map will
    do); beyond its ends it is silence.
    """
    if rate == target:
        return np.asarray(x, np.float64)
    ratio = float(target) / rate
    scale = min(1.0, ratio)
    reach = len(half_window()) // int(scale * STEPS) + 2
    out = np.empty(int(len(x) * ratio))
    filters: dict[int, np.ndarray] = {}
    time = 0.0
    for start in range(0, len(out), BLOCK):
        stop = min(start + BLOCK, len(out))
        increments = np.full(stop - start + 1, 1.0 / ratio)
        increments[0] = time
        times = np.cumsum(increments)
        time = float(times[-1])
        centres = times[:-1].astype(np.int64)
        fractions = scale * (times[:-1] - centres)
        base = int(centres[0]) - reach
        block = padded(x, base, int(centres[-1]) + reach + 2)
        out[start:stop] = filtered(block, centres - base, fractions, ratio, reach, filters)
    return out


def padded(x: np.ndarray, start: int, stop: int) -> np.ndarray:
    """-> x[start:stop] as float64, zeros where it reaches beyond either end."""
    inside = np.asarray(x[max(start, 0):max(stop, 0)], np.float64)
    before = max(-start, 0)
    return np.pad(inside, (before, stop - start - before - len(inside)))


def filtered(
    block: np.ndarray, centres: np.ndarray, fractions: np.ndarray, ratio: float, reach: int, filters: dict[int, np.ndarray]
) -> np.ndarray:
    """-> one output per centre. Outputs of one phase (equal fractions, to 1e-9) share a filter of 2 * reach taps."""
    windows = np.lib.stride_tricks.sliding_window_view(block, 2 * reach)
    keys = np.rint(fractions * 1e9).astype(np.int64)
    order = np.argsort(keys, kind="stable")
    unique, first = np.unique(keys[order], return_index=True)
    out = np.empty(len(centres))
    for key, rows in zip(unique, np.split(order, first[1:]), strict=True):
        weights = filters.get(int(key))
        if weights is None:
            fraction = float(fractions[rows[0]])
            left = side_weights(fraction, ratio)
            right = side_weights(min(1.0, ratio) - fraction, ratio)
            weights = np.zeros(2 * reach)
            weights[reach - len(left):reach] = left[::-1]
            weights[reach:reach + len(right)] = right
            filters[int(key)] = weights
        out[rows] = windows[centres[rows] - reach + 1] @ weights
    return out
