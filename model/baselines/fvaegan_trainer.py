"""Epochs of f-VAEGAN-D2's networks on one set of training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.baselines.fvaegan_classifier import Rows
from model.baselines.fvaegan_networks import FvaeganSettings, Networks, Updates
from model.samplers import ClassBalanced

TERMS = ("critic", "critic_penalty", "reconstruction", "divergence", "generator_real", "generator_fake")


@dataclass
class NetworkTrainer:
    """The networks, their optimisers, and epochs of training on one set of rows.

    ``labels`` (N): row of ``vectors`` (classes, 300) of each training row. ``random``: on the CPU; draws batches and
    noise. Initial weights come from the global generator. ``published`` decides:

    * ``fvaegan_batches``: an epoch is one critic and one generator update on one batch, whatever ``batches`` says;
      otherwise a critic update for each batch, each with its own rows and noise, and a generator update after every
      ``critic_updates``-th, on its rows.
    * ``fvaegan_defects``: the VAE term summed over the batch, the critics' noise used again for the generator, and D2
      trained although nothing uses it. Otherwise weighting as at 64 rows, fresh noise, no D2 (inductive f-VAEGAN).
    """

    rows: Rows
    labels: Tensor
    vectors: Tensor
    settings: FvaeganSettings
    published: frozenset[str]
    random: torch.Generator
    updates: Updates = field(init=False)

    def __post_init__(self) -> None:
        defects = "fvaegan_defects" in self.published
        networks = Networks(self.rows.width, self.vectors.shape[1], self.settings, unpaired=defects)
        networks = networks.to(self.vectors.device, self.vectors.dtype)
        self.updates = Updates(networks, self.settings, summed=defects)
        self.sampler = ClassBalanced.of(self.labels.cpu())

    @property
    def networks(self) -> Networks:
        return self.updates.networks

    def epoch(self, batches: int) -> tuple[list[float], int, int]:
        """Train one epoch. -> (mean of each of TERMS, critic updates, generator updates).

        Terms are per batch row: the VAE's are divided by the batch size. Raises FloatingPointError with the batch and
        the term if one is not finite.
        """
        one = "fvaegan_batches" in self.published
        critic, generator = [], []
        drawn = self.sampler.epoch(1 if one else batches, self.settings.batch_size, self.random, negatives=False)
        for number, index in enumerate(drawn[:, :, 0].to(self.labels.device)):
            x, c = self.rows.take(index), self.vectors[self.labels[index]]
            noise = self._normal(len(x))
            losses = self.updates.critics(x, c, noise, self._uniform(len(x)), self._second_mix(len(x)))["D"]
            critic.append(torch.stack((losses["total"], losses["penalty"])).detach())
            if one or (number + 1) % self.settings.critic_updates == 0:
                if "fvaegan_defects" not in self.published:
                    noise = self._normal(len(x))
                last = self.updates.generator(x, c, noise, self._normal(len(x)))
                vae = torch.stack((last["reconstruction"], last["divergence"])) / len(x)
                generator.append(torch.cat((vae, torch.stack((last["r_mean"], last["f_mean"])))).detach())
        tables = [_table(critic, 2), _table(generator, 4)]
        turns = [number for number in range(batches) if (number + 1) % self.settings.critic_updates == 0]
        raise_if_not_finite(tables, [list(range(len(critic))), [0] if one else turns])
        return torch.cat([table.mean(0) for table in tables]).tolist(), len(critic), len(generator)

    def state(self) -> dict:
        """-> everything that a restart needs, as tensors and numbers."""
        return {"updates": self.updates.state(), "random": self.random.get_state()}

    def load(self, state: Mapping) -> None:
        self.updates.load(state["updates"])
        self.random.set_state(state["random"].cpu())

    def _normal(self, rows: int) -> Tensor:
        return torch.randn(rows, self.settings.latent_size, generator=self.random).to(self.vectors)

    def _uniform(self, rows: int) -> Tensor:
        return torch.rand(rows, 1, generator=self.random).to(self.vectors)

    def _second_mix(self, rows: int) -> Tensor | None:
        return None if self.networks.D2 is None else self._uniform(rows)


def _table(values: list[Tensor], terms: int) -> Tensor:
    return torch.stack(values).double().cpu() if values else torch.full((1, terms), float("nan"), dtype=torch.float64)


def raise_if_not_finite(tables: list[Tensor], batches: list[list[int]]) -> None:
    """``tables``: (updates, terms) of critics and generator; ``batches``: in which batch each update was."""
    found = []
    names = iter(TERMS)
    for table, numbers in zip(tables, batches, strict=True):
        terms = [next(names) for _ in range(table.shape[1])]
        bad = torch.nonzero(~torch.isfinite(table)) if numbers else torch.empty(0)
        if len(bad):
            update, term = bad[0].tolist()
            found.append((numbers[update], f"loss term {terms[term]} became {table[update, term].item()}"))
    if found:
        batch, what = min(found)
        raise FloatingPointError(f"batch {batch}: {what}")
