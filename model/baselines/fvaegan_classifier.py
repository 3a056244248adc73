"""What f-VAEGAN-D2 does with its generator: synthetic rows of the unseen classes and linear softmax classifiers.

Two classifiers are trained from scratch on one synthetic set: the generalised one on all real training rows and the
synthetic rows of the unseen classes, the zero-shot one on the synthetic rows alone. Rows are divided by their L2 norm
wherever a classifier sees them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from model.baselines.fvaegan_networks import FvaeganSettings, Generator, normalise
from model.samplers import ClassBalanced

WEIGHT_DEVIATION = 0.02
GENERATION_ROWS = 4096


@dataclass(frozen=True)
class Rows:
    """Joint feature rows of videos, made on demand: audio (M, Da) and video (M, Dv) stay apart and are held once.

    ``rows`` (N): which of the M videos these are; row i is video ``rows[i]``.
    """

    audio: Tensor
    video: Tensor
    rows: Tensor

    @classmethod
    def of_all(cls, audio: Tensor, video: Tensor) -> Rows:
        return cls(audio, video, torch.arange(len(audio), device=audio.device))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        return self.audio.shape[1] + self.video.shape[1]

    def take(self, index: Tensor) -> Tensor:
        """-> unit rows [audio, video] (len(index), Da + Dv)."""
        chosen = self.rows[index]
        return normalise(torch.cat((self.audio[chosen], self.video[chosen]), 1))


@dataclass
class Synthetic:
    """``per_class`` generated rows of each class; row i belongs to class i // per_class of ``vectors``.

    Held as noise, and as rows too where those take at most ``cache_bytes``: 690,000 rows of VGGSound do not fit.
    """

    generator: Generator
    vectors: Tensor
    noise: Tensor
    per_class: int
    cache_bytes: int
    rows: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        width = self.generator.features
        if len(self.noise) * width * self.noise.element_size() <= self.cache_bytes:
            index = torch.arange(len(self.noise), device=self.noise.device)
            self.rows = torch.cat([self.make(part) for part in index.split(GENERATION_ROWS)])

    @classmethod
    def draw(
        cls, generator: Generator, vectors: Tensor, settings: FvaeganSettings, random: torch.Generator
    ) -> Synthetic:
        """``vectors`` (classes, 300): of the classes to generate."""
        count = len(vectors) * settings.synthetic_per_class
        noise = torch.randn(count, settings.latent_size, generator=random).to(vectors)
        return cls(generator, vectors, noise, settings.synthetic_per_class, settings.synthetic_cache_bytes)

    def __len__(self) -> int:
        return len(self.noise)

    def labels(self) -> Tensor:
        """-> (rows) position of each row's class in ``vectors``."""
        return torch.arange(len(self.noise), device=self.noise.device) // self.per_class

    @torch.no_grad()
    def make(self, index: Tensor) -> Tensor:
        return normalise(self.generator(self.noise[index], self.vectors[index // self.per_class]))

    def take(self, index: Tensor) -> Tensor:
        """-> unit rows (len(index), features)."""
        return self.make(index) if self.rows is None else self.rows[index]


@dataclass
class Pool:
    """Training rows of one classifier: the real ones (if any) first, then the synthetic ones.

    ``labels`` (rows): the classifier's output that each row belongs to. All rows are put together once if they fit the
    room that the synthetic ones have.
    """

    real: Rows | None
    synthetic: Synthetic
    labels: Tensor
    rows: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        made = self.synthetic.rows
        if self.real is None:
            self.rows = made
        elif made is not None and len(self.labels) * made[0].nbytes <= self.synthetic.cache_bytes:
            index = torch.arange(len(self.real), device=made.device)
            self.rows = torch.cat((*(self.real.take(part) for part in index.split(GENERATION_ROWS)), made))

    def take(self, index: Tensor) -> Tensor:
        """-> unit rows (len(index), features)."""
        if self.rows is not None:
            return self.rows.index_select(0, index)
        if self.real is None:
            return self.synthetic.take(index)
        first = len(self.real)
        is_real = index < first
        x = torch.empty(len(index), self.real.width, device=index.device, dtype=self.real.audio.dtype)
        x[is_real] = self.real.take(index[is_real])
        x[~is_real] = self.synthetic.take(index[~is_real] - first)
        return x


def pools(
    real: Rows, real_labels: Tensor, seen: Tensor, synthetic: Synthetic
) -> tuple[Pool, Pool]:
    """-> (generalised, zero-shot) training rows.

    ``seen`` (classes): ascending ids of the training classes, ``real_labels`` (N): one of them each. Outputs of the
    generalised classifier: ``seen`` in order, then the classes of ``synthetic``; of the zero-shot one: those alone.
    """
    generated = synthetic.labels()
    labels = torch.cat((torch.searchsorted(seen, real_labels), len(seen) + generated))
    return Pool(real, synthetic, labels), Pool(None, synthetic, generated)


@dataclass(frozen=True)
class Classifier:
    """Linear softmax: ``classes`` (K) ids of its outputs, ``weight`` (K, features), ``bias`` (K)."""

    classes: Tensor
    weight: Tensor
    bias: Tensor

    @torch.no_grad()
    def log_probabilities(self, rows: Rows) -> Tensor:
        """-> (N, K), of all rows."""
        index = torch.arange(len(rows), device=self.weight.device)
        parts = [
            functional.log_softmax(functional.linear(rows.take(part), self.weight, self.bias), 1)
            for part in index.split(GENERATION_ROWS)
        ]
        return torch.cat(parts) if parts else self.weight.new_zeros(0, len(self.classes))

    def copy(self) -> Classifier:
        return Classifier(self.classes, self.weight.clone(), self.bias.clone())


def batches(pool: Pool, defects: bool, settings: FvaeganSettings, random: torch.Generator) -> Iterator[list[Tensor]]:
    """Yield, for each classifier epoch, its batches of row numbers.

    ``defects`` (released): one permutation for all epochs, classes as frequent as their rows, batches of as many rows
    as are synthesised per class. Otherwise class-balanced draws, as many rows an epoch as there are (up to a limit), in
    batches of their own size.
    """
    count, device = len(pool.labels), pool.labels.device
    if defects:
        order = torch.randperm(count, generator=random).to(device)
        fixed = list(order.split(settings.synthetic_per_class))
        for _ in range(settings.classifier_epochs):
            yield fixed
        return
    balanced = ClassBalanced.of(pool.labels.cpu())
    size = settings.classifier_batch_size
    number = min(math.ceil(count / size), settings.classifier_batches)
    for _ in range(settings.classifier_epochs):
        yield list(balanced.epoch(number, size, random, negatives=False)[:, :, 0].to(device))


def train(
    pool: Pool, classes: Tensor, defects: bool, settings: FvaeganSettings, random: torch.Generator
) -> Iterator[Classifier]:
    """Yield one classifier after each of its epochs; it is trained further in place, so copy what is to be kept.

    Cross-entropy, Adam at ``classifier_learning_rate``, weights from N(0, 0.02^2), biases 0.
    """
    width = pool.synthetic.generator.features
    device, dtype = pool.labels.device, pool.synthetic.noise.dtype
    weight = (WEIGHT_DEVIATION * torch.randn(len(classes), width, generator=random)).to(device, dtype)
    bias = torch.zeros(len(classes), device=device, dtype=dtype)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    adam = torch.optim.Adam(
        parameters, lr=settings.classifier_learning_rate, betas=(settings.first_moment, settings.second_moment),
        eps=1e-8, fused=True,
    )
    for epoch in batches(pool, defects, settings, random):
        for index in epoch:
            loss = functional.cross_entropy(functional.linear(pool.take(index), weight, bias), pool.labels[index])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
        yield Classifier(classes, weight.detach(), bias.detach())
