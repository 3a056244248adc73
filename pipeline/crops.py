"""Pictures to the size that the extractors take, with the arithmetic of the published code."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

SIZE = 112
C3D_RESIZED = (171, 128)
C3D_LEFT, C3D_TOP = 30, 8


def selavi_crop(frames: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, 112, 112, 3) float32 in 0..255: SeLaVi's resize and centre crop.

    Shorter side to 112, bilinear, pixel centres aligned at half (align_corners False), no antialiasing; then the
    centre, offsets rounded up. No resize where the shorter side is 112. Only the crop is computed. The published code
    normalises first: (v / 255 - 0.45) / 0.225 commutes with this up to rounding.
    """
    rows, columns = selavi_taps(*frames.shape[1:3])
    out = np.empty((len(frames), SIZE, SIZE, 3), np.float32)
    for index, frame in enumerate(frames):
        out[index] = blend(frame, rows, columns)
    return out


def selavi_crop_uint8(frames: np.ndarray) -> np.ndarray:
    """``selavi_crop`` rounded to (N, 112, 112, 3) uint8, as decoded shards store it."""
    return np.rint(selavi_crop(frames)).astype(np.uint8)


def blend(frame: np.ndarray, rows: tuple, columns: tuple) -> np.ndarray:
    """(H, W, 3) uint8 -> (112, 112, 3) float32 by the given (lower, upper, weight of the upper) taps of both axes."""
    low, high, weight = rows
    left, right, across = columns
    start, stop = int(left[0]), int(right[-1]) + 1
    band = frame[:, start:stop].astype(np.float32) if len(low) * 2 > len(frame) else frame[:, start:stop]
    upper = band[low].astype(np.float32, copy=False)
    lines = upper + (band[high].astype(np.float32, copy=False) - upper) * weight[:, None, None]
    first = lines[:, left - start]
    return first + (lines[:, right - start] - first) * across[None, :, None]


@functools.lru_cache(maxsize=64)
def selavi_taps(height: int, width: int) -> tuple[tuple, tuple]:
    """-> (rows, columns), each (lower index, upper index, float32 weight of the upper) for 112 output positions."""
    if min(height, width) == SIZE:
        resized = (height, width)
    elif width < height:
        resized = (int(np.floor((float(height) / width) * SIZE)), SIZE)
    else:
        resized = (SIZE, int(np.floor((float(width) / height) * SIZE)))
    return axis_taps(height, resized[0]), axis_taps(width, resized[1])


def axis_taps(size: int, resized: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> taps of the centre 112 positions of an axis that goes from ``size`` to ``resized``."""
    offset = -((SIZE - resized) // 2)
    positions = np.arange(offset, offset + SIZE, dtype=np.float32)
    scale = np.float32(size) / np.float32(resized)
    source = np.maximum((positions + np.float32(0.5)) * scale - np.float32(0.5), np.float32(0))
    low = np.minimum(source.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), (source - low).astype(np.float32)


def c3d_crop(frames: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, 112, 112, 3) uint8: C3D's resize and centre crop.

    Pillow's bilinear (antialiased) to 171 x 128, aspect ignored; then rows 8..119, columns 30..141.
    """
    out = np.empty((len(frames), SIZE, SIZE, 3), np.uint8)
    for index, frame in enumerate(frames):
        small = Image.fromarray(frame).resize(C3D_RESIZED, Image.Resampling.BILINEAR)
        out[index] = np.asarray(small)[C3D_TOP:C3D_TOP + SIZE, C3D_LEFT:C3D_LEFT + SIZE]
    return out


def negative(frames: np.ndarray) -> np.ndarray:
    """uint8 -> uint8, ``(256 - v) mod 256``: 0 stays 0, everything else is a photographic negative.

    What the released C3D scripts for UCF and VGGSound make of a picture: torchvision multiplies their float frames,
    0..255 already, by 255 and casts to uint8.
    """
    return np.where(frames == 0, 0, 256 - frames.astype(np.int16)).astype(np.uint8)


def c3d_crop_of_negative(frames: np.ndarray) -> np.ndarray:
    """``c3d_crop`` of ``negative``. In this order: black stays black, so a resize before would blend other values."""
    return c3d_crop(negative(frames))
