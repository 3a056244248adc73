"""R(2+1)D-18, the video trunk of SeLaVi (Tran et al., CVPR 2018), from torchvision's class."""

from __future__ import annotations

from torch import nn
from torchvision.models.video import r2plus1d_18


def r2plus1d_18_trunk() -> nn.Module:
    """-> network (B, 3, T, 112, 112) -> (B, 512), >= 0: mean over time and space after the last ReLU.

    torchvision sizes the middle convolutions of both halves of a block by the block's own widths (230 and 460 in the
    first blocks of stages 2 and 3), as the published weights do. No classifier: it becomes the identity.
    """
    network = r2plus1d_18(weights=None)
    network.fc = nn.Identity()
    return network
