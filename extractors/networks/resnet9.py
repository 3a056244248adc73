"""ResNet-9, the audio trunk of SeLaVi: torchvision's ResNet with one basic block a stage and one input channel."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


def resnet9_trunk() -> nn.Module:
    """-> network (B, 1, bands, frames) -> (B, 512), >= 0: mean over bands and frames after the last ReLU."""
    network = ResNet(BasicBlock, [1, 1, 1, 1])
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    return network
