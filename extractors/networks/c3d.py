"""C3D to fc7 (Tran et al., ICCV 2015), with the layer names of the published weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


def conv(width_in: int, width_out: int) -> nn.Conv3d:
    return nn.Conv3d(width_in, width_out, kernel_size=3, padding=1)


class C3DNetwork(nn.Module):
    """(B, 3, 16, 112, 112) -> (B, 4096), >= 0: fc7 after its ReLU. fc8, the classifier, is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 64)
        self.pool1 = nn.MaxPool3d((1, 2, 2))
        self.conv2 = conv(64, 128)
        self.pool2 = nn.MaxPool3d(2)
        self.conv3a = conv(128, 256)
        self.conv3b = conv(256, 256)
        self.pool3 = nn.MaxPool3d(2)
        self.conv4a = conv(256, 512)
        self.conv4b = conv(512, 512)
        self.pool4 = nn.MaxPool3d(2)
        self.conv5a = conv(512, 512)
        self.conv5b = conv(512, 512)
        self.pool5 = nn.MaxPool3d(2, padding=(0, 1, 1))
        self.fc6 = nn.Linear(8192, 4096)
        self.fc7 = nn.Linear(4096, 4096)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(relu(self.conv1(x)))  # (B, 64, 16, 56, 56)
        x = self.pool2(relu(self.conv2(x)))  # (B, 128, 8, 28, 28)
        x = self.pool3(relu(self.conv3b(relu(self.conv3a(x)))))  # (B, 256, 4, 14, 14)
        x = self.pool4(relu(self.conv4b(relu(self.conv4a(x)))))  # (B, 512, 2, 7, 7)
        x = self.pool5(relu(self.conv5b(relu(self.conv5a(x)))))  # (B, 512, 1, 4, 4)
        x = torch.flatten(x, 1)  # (B, 8192), channel-major
        return relu(self.fc7(relu(self.fc6(x))))  # (B, 4096)
