"""From decoded crops to what the video networks expect. Batched, on the device that the crops are on."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SELAVI_MEAN, SELAVI_DEVIATION = 0.45, 0.225
# Kinetics statistics in the order R, G, B; the published code applies them to channels in the order B, G, R.
KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_DEVIATION = (0.22803, 0.22145, 0.216989)


def channels_first(frames: Tensor) -> Tensor:
    """(B, T, H, W, 3) -> (B, 3, T, H, W) float32, same values."""
    return frames.permute(0, 4, 1, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)


@lru_cache(maxsize=8)
def kinetics(device: torch.device) -> tuple[Tensor, Tensor]:
    """-> mean and deviation (3, 1, 1, 1) on this device: copied there once, since a copy makes the host wait for it."""
    mean, deviation = (torch.tensor(each).view(3, 1, 1, 1) for each in (KINETICS_MEAN, KINETICS_DEVIATION))
    return mean.to(device), deviation.to(device)


def selavi_frames(frames: Tensor) -> Tensor:
    """RGB crops (B, 30, 112, 112, 3), uint8 or float32 0..255 -> (B, 3, 30, 112, 112) float32, /255, -0.45, /0.225."""
    return channels_first(frames).div_(255).sub_(SELAVI_MEAN).div_(SELAVI_DEVIATION)


def c3d_frames(frames: Tensor, valid: Tensor, published_colour: bool, published_scale: bool) -> Tensor:
    """RGB crops (B, 16, 112, 112, 3) uint8 and real frames per clip (B,) -> (B, 3, 16, 112, 112) float32.

    ``published_colour``: channels B, G, R instead of R, G, B. ``published_scale``: /255, minus Kinetics mean, by its
    deviation, whatever the channel order; else 0..255. Frames from ``valid`` on are padding: 0.0 in the scale of the
    result (the mean colour, if ``published_scale``).
    """
    x = channels_first(frames.flip(-1) if published_colour else frames)
    if published_scale:
        mean, deviation = kinetics(x.device)
        x = x.div_(255).sub_(mean).div_(deviation)
    real = torch.arange(x.shape[2], device=x.device) < valid.to(x.device).view(-1, 1)  # (B, 16)
    return x.mul_(real.view(len(x), 1, -1, 1, 1))
