"""Layers of the embedding methods. A batch is (B, G, F): G batches of B rows that a batch norm must see apart.

G is 2 for positives and negatives, 1 for anything alone. One matrix product serves all G batches, while every batch
norm normalises each of them by its own mean and variance and counts them, in order, into its running statistics.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MASK_STEPS = 1 << 16


class BatchNorm(nn.Module):
    """Batch norm of each of the G batches apart; (B, G, F) -> (B, G, F). Running statistics as in PyTorch.

    ``momentum`` is the weight of the new batch; the running variance takes the unbiased one.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.features, self.momentum, self.eps = features, momentum, eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return self.flat(x).view_as(x)

    def flat(self, x: Tensor) -> Tensor:
        """``forward`` with its output in two dimensions, which may be changed in place without a detour over a view."""
        if not self.training:
            return functional.batch_norm(
                x.reshape(-1, self.features), self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        size, groups, features = x.shape
        # momentum 1 turns the two buffers into this batch's statistics
        mean, variance = x.new_zeros(2, groups * features)
        y = functional.batch_norm(  # the G batches side by side as features
            x.reshape(size, groups * features), mean, variance, self.weight.repeat(groups), self.bias.repeat(groups),
            training=True, momentum=1.0, eps=self.eps,
        )
        self.count(mean.view(groups, features), variance.view(groups, features))
        return y

    def observe(self, x: Tensor) -> None:
        """Count x into the running statistics and make no output."""
        variance, mean = torch.var_mean(x, dim=0)  # (G, F), unbiased
        self.count(mean, variance)

    @torch.no_grad()
    def count(self, mean: Tensor, variance: Tensor) -> None:
        """Take the statistics (G, F) of G batches into the running ones, in order."""
        for group in range(len(mean)):
            self.running_mean.lerp_(mean[group], self.momentum)
            self.running_var.lerp_(variance[group], self.momentum)
        self.num_batches_tracked.add_(len(mean))


class Dropout(nn.Module):
    """Dropout; on the CPU with one 16-bit random number an entry (rates are met to 1 part in 65,536), 5 times faster.

    Both ways draw from PyTorch's global generator.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.rate)
        return x * keep_mask(x, self.rate)


def keep_mask(x: Tensor, rate: float) -> Tensor:
    """-> random mask of the shape of x: 0 with probability ``rate``, else what keeps the expectation."""
    dropped = round(rate * MASK_STEPS)
    count = x.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None).view(torch.int16)[:count]
    keep = torch.empty_like(x, requires_grad=False)
    torch.ge(bits.view(x.shape), dropped - MASK_STEPS // 2, out=keep)  # 0 or 1, without a detour over booleans
    return keep.mul_(MASK_STEPS / (MASK_STEPS - dropped))


class OneLayer(nn.Module):
    """Linear, batch norm, ReLU, dropout."""

    def __init__(self, inputs: int, outputs: int, dropout: float, momentum: float = 0.1):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = BatchNorm(outputs, momentum)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        y = self.norm.flat(x)
        if self.training and self.dropout.rate > 0 and x.device.type == "cpu":
            # a mask that is never negative may come first: both in place, which a batch norm's gradient does not mind
            return y.mul_(keep_mask(y, self.dropout.rate)).relu_().view_as(x)
        return self.dropout(y.relu_()).view_as(x)

    def observe(self, x: Tensor) -> None:
        """What ``forward`` does to the running statistics, without its output."""
        self.norm.observe(self.linear(x))


class TwoLayer(nn.Module):
    """Two of OneLayer with one dropout rate; ``momentum`` is the second batch norm's, the first has PyTorch's 0.1."""

    def __init__(self, inputs: int, hidden: int, outputs: int, dropout: float, momentum: float):
        super().__init__()
        self.hidden = OneLayer(inputs, hidden, dropout)
        self.output = OneLayer(hidden, outputs, dropout, momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(x))

    def observe(self, x: Tensor) -> None:
        """What ``forward`` does to the running statistics, without its output."""
        self.output.observe(self.hidden(x))


class TwoTokenAttention(nn.Module):
    """Pre-norm self-attention over the sequence (audio, video), without the residual; (N, 2, 300) -> (N, 2, 300).

    A softmax over two tokens is a sigmoid of the difference of their scores, which needs no product of small matrices.
    """

    def __init__(self, size: int, heads: int, head_size: int, dropout: float):
        super().__init__()
        self.heads, self.head_size = heads, head_size
        self.norm = nn.LayerNorm(size)
        self.qkv = nn.Linear(size, 3 * heads * head_size, bias=False)
        self.out = nn.Linear(heads * head_size, size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, self.head_size)) for part in self.qkv(self.norm(x)).chunk(3, -1))
        # (N, 2, heads, head_size) each
        (k_0, k_1), (v_0, v_1) = k.split(1, 1), v.split(1, 1)  # (N, 1, heads, head_size) each
        advantage = (q * (k_0 - k_1)).sum(-1, keepdim=True)  # (N, 2, heads, 1) of token 0 over token 1
        first = torch.sigmoid(advantage * self.head_size**-0.5)
        mixed = torch.addcmul(v_1, first, v_0 - v_1)  # (N, 2, heads, head_size)
        return self.dropout(self.out(mixed.flatten(-2)))


class FeedForward(nn.Module):
    """Pre-norm feed-forward block with exact (erf) GELU, without the residual; (..., size) -> (..., size)."""

    def __init__(self, size: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.inner = nn.Linear(size, hidden)
        self.outer = nn.Linear(hidden, size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.outer(self.dropout(functional.gelu(self.inner(self.norm(x))))))


class CrossAttention(nn.Module):
    """One transformer layer that both modalities share; (N, 2, size) -> (N, 2, size), audio first.

    The paper describes a block per modality with post-norm; the released code has this one, and only it has the
    published number of parameters.
    """

    def __init__(self, size: int, heads: int, head_size: int, hidden: int, dropout: float):
        super().__init__()
        self.attention = TwoTokenAttention(size, heads, head_size, dropout)
        self.feed_forward = FeedForward(size, hidden, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.feed_forward(x)


class HiddenLayer(nn.Module):
    """Linear, batch norm, ReLU, dropout, linear: the nets of CJME and AVGZSLNet; (B, G, inputs) -> (B, G, outputs)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, dropout: float):
        super().__init__()
        self.hidden = OneLayer(inputs, hidden, dropout)
        self.output = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(x))
