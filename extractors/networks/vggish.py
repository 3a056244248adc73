"""VGGish (Hershey et al., ICASSP 2017), with the layer names of the published weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Widths of the convolutions; None is a 2 x 2 max pool.
LAYERS = (64, None, 128, None, 256, 256, None, 512, 512, None)


class VGGishNetwork(nn.Module):
    """Log-mel examples (B, 1, 96, 64) -> embedding (B, 128) after its ReLU, >= 0."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for out in LAYERS:
            if out is None:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(width, out, kernel_size=3, padding=1), nn.ReLU()]
                width = out
        self.features = nn.Sequential(*layers)
        self.fc = nn.Sequential(
            nn.Linear(12288, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, 512, 6, 4)
        # The weights come from TensorFlow: time, band, channel.
        x = torch.flatten(x.permute(0, 2, 3, 1), 1)  # (B, 12288)
        return self.fc(x)  # (B, 128)
