"""From decoded samples to the spectrograms that the audio networks expect. Batched, in float64 until the end.

Both spectrograms are torchaudio's. Its analysis window sits in the middle of the transform's length, so the samples
are padded by half the difference first; a delay changes phases only, and both networks take magnitudes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.functional import preemphasis
from torchaudio.transforms import Spectrogram

SELAVI_BANDS, SELAVI_FFT = 257, 1024
SELAVI_MEAN, SELAVI_DEVIATION = 1.93, 17.89
VGGISH_RATE_HZ, VGGISH_WINDOW, VGGISH_HOP, VGGISH_FFT, VGGISH_BANDS = 16000, 400, 160, 512, 64
VGGISH_FRAMES = 96  # of one example
CPU = torch.device("cpu")


def round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


@lru_cache(maxsize=8)
def selavi_filters(rate_hz: int, device: torch.device = CPU) -> Tensor:
    """-> (513, 257) float64: triangles between 259 points evenly spaced in mel from 0 Hz to half the rate.

    Their corners are rounded down to whole bins, which leaves some filters without any: 54 of 257 at 44.1 kHz. Those
    bands are constant (the floor) in every spectrogram, in the published features too.
    """
    mel = np.linspace(0, 2595 * np.log10(1 + rate_hz / 2 / 700), SELAVI_BANDS + 2)
    corner = np.floor((SELAVI_FFT + 1) * (700 * (10 ** (mel / 2595) - 1)) / rate_hz).astype(int)
    filters = np.zeros((SELAVI_FFT // 2 + 1, SELAVI_BANDS))
    for band in range(SELAVI_BANDS):
        low, peak, high = corner[band : band + 3]
        rising, falling = np.arange(low, peak), np.arange(peak, high)
        filters[rising, band] = (rising - low) / max(peak - low, 1)
        filters[falling, band] = (high - falling) / max(high - peak, 1)
    return torch.from_numpy(filters).to(device)


def selavi_spectrogram(samples: Tensor, rate_hz: int = 44100) -> Tensor:
    """Samples (B, S) in the scale of int16 -> (B, 1, 257, frames) float32, (log power - 1.93) / 17.89.

    Pre-emphasis 0.97, frames of 20 ms every 10 ms under a rectangular window (the last one filled with zeros), power
    spectrum over 1024, 257 mel bands low to high, natural logarithm. A band without power is exactly the floor,
    log(2.220446e-16). One second at 44.1 kHz: 99 frames. Done in float64.
    """
    window, hop = round_half_up(0.02 * rate_hz), round_half_up(0.01 * rate_hz)
    length = samples.shape[-1]
    frames = 1 + max(0, math.ceil((length - window) / hop))
    x = preemphasis(samples.to(torch.float64), 0.97)
    left = (SELAVI_FFT - window) // 2
    x = pad(x, (left, SELAVI_FFT + (frames - 1) * hop - left - length))
    power = spectrogram(SELAVI_FFT, window, hop, _ones, 2, x.device)(x).transpose(1, 2) / SELAVI_FFT
    bands = power @ selavi_filters(rate_hz, x.device)  # (B, frames, 513) -> (B, frames, 257)
    logarithm = bands.masked_fill(bands == 0, torch.finfo(torch.float64).eps).log().to(torch.float32)
    return ((logarithm - SELAVI_MEAN) / SELAVI_DEVIATION).transpose(1, 2).unsqueeze(1)


@lru_cache(maxsize=8)
def spectrogram(
    length: int, window: int, hop: int, shape: Callable[..., Tensor], power: float, device: torch.device
) -> Spectrogram:
    """-> torchaudio's spectrogram, not centred, made once: its window's copy to a GPU would make the host wait."""
    made = Spectrogram(length, window, hop, window_fn=shape, power=power, center=False)
    return made.to(device)


def _ones(length: int, **options) -> Tensor:
    return torch.ones(length, dtype=torch.float64, **options)


def _hann(length: int, **options) -> Tensor:
    return torch.hann_window(length, dtype=torch.float64, **options)


@lru_cache(maxsize=8)
def vggish_filters(device: torch.device = CPU) -> Tensor:
    """-> (257, 64) float64: triangles from 125 to 7500 Hz, linear in mel at the mel of each bin; nothing at 0 Hz."""
    bins = 1127 * np.log1p(np.linspace(0, VGGISH_RATE_HZ / 2, VGGISH_FFT // 2 + 1) / 700)
    edge = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7500 / 700), VGGISH_BANDS + 2)
    rise = (bins[:, None] - edge[:-2]) / (edge[1:-1] - edge[:-2])
    fall = (edge[2:] - bins[:, None]) / (edge[2:] - edge[1:-1])
    filters = np.maximum(0, np.minimum(rise, fall))
    filters[0] = 0
    return torch.from_numpy(filters).to(device)


def vggish_log_mel(samples: Tensor) -> Tensor:
    """Samples (B, S) at 16 kHz in [-1, 1] -> (B, frames, 64) float64: log(mel of the magnitudes + 0.01).

    Frames of 400 samples every 160 under a periodic Hann window, not centred, the incomplete last one dropped.
    """
    length = samples.shape[-1]
    if length < VGGISH_WINDOW:
        return samples.new_zeros((len(samples), 0, VGGISH_BANDS), dtype=torch.float64)
    margin = (VGGISH_FFT - VGGISH_WINDOW) // 2
    x = pad(samples.to(torch.float64), (margin, margin))
    magnitude = spectrogram(VGGISH_FFT, VGGISH_WINDOW, VGGISH_HOP, _hann, 1, x.device)(x).transpose(1, 2)
    return (magnitude @ vggish_filters(x.device) + 0.01).log()  # (B, frames, 257) -> (B, frames, 64)


def vggish_examples(log_mel: Tensor) -> Tensor:
    """(B, frames, 64) -> (B, frames // 96, 96, 64) float32: examples of 0.96 s side by side, the rest dropped."""
    count = log_mel.shape[1] // VGGISH_FRAMES
    return log_mel[:, : count * VGGISH_FRAMES].reshape(len(log_mel), count, VGGISH_FRAMES, VGGISH_BANDS).float()


def vggish_codes(embedding: Tensor, eigenvectors: Tensor, means: Tensor) -> Tensor:
    """Embeddings (B, 128) -> (B, 128) float32 whole numbers 0..255: ``vggish_pca``, clipped to 2, 8 bits by truncation.

    The AudioSet release's 8-bit codes, but truncated where that release's successors round.
    """
    projected = vggish_pca(embedding, eigenvectors, means).clamp(-2, 2)
    return ((projected + 2) * 63.75).to(torch.uint8).to(torch.float32)


def vggish_pca(embedding: Tensor, eigenvectors: Tensor, means: Tensor) -> Tensor:
    """Embeddings (B, 128) -> (B, 128) float64: eigenvectors (128, 128) times (embedding - means (128,))."""
    return (embedding.to(torch.float64) - means.to(torch.float64)) @ eigenvectors.to(torch.float64).T
