"""Flat convolutions: what torch's own convolutions of volumes compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from extractors.networks import flat
from extractors.networks.r2plus1d import r2plus1d_18_trunk


@pytest.mark.parametrize("kernel, stride, padding", [
    ((1, 3, 3), (1, 1, 1), (0, 1, 1)), ((1, 7, 7), (1, 2, 2), (0, 3, 3)), ((1, 1, 1), (2, 2, 2), (0, 0, 0)),
    ((3, 1, 1), (1, 1, 1), (1, 0, 0)), ((3, 1, 1), (2, 1, 1), (1, 0, 0)), ((1, 2, 3), (3, 1, 2), (0, 1, 0)),
])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_a_flat_convolution_is_the_convolution(kernel, stride, padding, layout):
    torch.manual_seed(0)
    volume = nn.Conv3d(5, 7, kernel, stride, padding)
    x = torch.randn(3, 5, 8, 11, 10).contiguous(memory_format=layout)
    assert flat.is_flat(volume)
    with torch.inference_mode():
        torch.testing.assert_close(flat.FlatConvolution(volume)(x), volume(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("volume", [
    nn.Conv3d(2, 2, 3, padding=1), nn.Conv3d(2, 2, (3, 1, 1), stride=2), nn.Conv3d(2, 2, (1, 3, 3), padding=1),
    nn.Conv3d(2, 2, (3, 1, 1), dilation=(2, 1, 1)), nn.Conv3d(2, 2, (1, 3, 3), groups=2), nn.BatchNorm3d(2),
])
def test_others_are_left_alone(volume):
    assert not flat.is_flat(volume)


def test_the_whole_trunk():
    """Norms with statistics of their own, all folded; blocks with and without a change of size."""
    torch.manual_seed(0)
    network = r2plus1d_18_trunk().eval()
    for norm in (layer for layer in network.modules() if isinstance(layer, nn.BatchNorm3d)):
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    x = torch.randn(1, 3, 9, 40, 36)
    with torch.inference_mode():
        expected = network(x)
        flat.flatten(network)
        assert not any(isinstance(layer, (nn.Conv3d, nn.BatchNorm3d)) for layer in network.modules())
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-5)
