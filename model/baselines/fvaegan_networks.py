"""Networks, losses and updates of f-VAEGAN-D2 (Xian et al., CVPR 2019) on joint audio-visual features.

Conventions: a feature row x is [audio, video] (**audio first**, other than for ALE, SJE, DEVISE and APN), divided by
its L2 norm and never negative: the reconstruction term is a binary cross-entropy, which wants targets in [0, 1].
c is the unit-length class vector (300). n, z: noise and latent code (300). B: batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import SettingsError

NORM_FLOOR = 1e-12
LEAK = 0.2
CRITIC_DEVIATION = 0.02
# The released loss sums the VAE term over a batch of 64 against a GAN term that is a mean times 100,000.
PUBLISHED_BATCH = 64


@dataclass(frozen=True)
class FvaeganSettings:
    """Hyper-parameters of the released run scripts; one set for all datasets but ``synthetic_per_class``.

    They are published for the 512 + 512 features of ``selavi``; other feature sets run with the same ones.
    ``unpaired_weight``: of D2, where it is trained. ``critic_updates``: for one of the generator; the released code
    has the argument and does not read it. ``classifier_batch_size``: the released code takes ``synthetic_per_class``.
    ``classifier_batches``: most batches of a class-balanced classifier epoch, which is drawn with replacement; only
    VGGSound has more rows than that, and sees each about four times in 30 epochs.
    ``synthetic_cache_bytes``: keep the generated rows if they fit, make them again for each batch otherwise.
    """

    batch_size: int = 64
    learning_rate: float = 1e-3
    first_moment: float = 0.5
    second_moment: float = 0.999
    latent_size: int = 300
    encoder_size: int = 300
    generator_size: int = 512
    critic_size: int = 512
    gan_weight: float = 1e5
    vae_weight: float = 1.0
    unpaired_weight: float = 1.0
    penalty_weight: float = 10.0
    critic_updates: int = 5
    synthetic_per_class: int = 1000
    classifier_epochs: int = 30
    classifier_batch_size: int = 1000
    classifier_batches: int = 100
    classifier_learning_rate: float = 1e-3
    synthetic_cache_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        for name in ("batch_size", "latent_size", "encoder_size", "generator_size", "critic_size", "critic_updates",
                     "synthetic_per_class", "classifier_epochs", "classifier_batches", "classifier_batch_size",
                     "learning_rate", "classifier_learning_rate"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"method fvaegan, {name}: found {getattr(self, name)}, expected more than 0")
        for name in ("gan_weight", "vae_weight", "unpaired_weight", "penalty_weight", "synthetic_cache_bytes"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"method fvaegan, {name}: found {getattr(self, name)}, expected 0 or more")
        for name in ("first_moment", "second_moment"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"method fvaegan, {name}: found {getattr(self, name)}, expected 0 up to below 1")


class Encoder(nn.Module):
    """E(x, c) -> mean and log-variance of the latent code, (B, latent) each; no activation on either."""

    def __init__(self, features: int, vector: int, hidden: int, latent: int):
        super().__init__()
        self.MLP = nn.ModuleDict({"L0": nn.Linear(features + vector, hidden)})
        self.linear_means = nn.Linear(hidden, latent)
        self.linear_log_var = nn.Linear(hidden, latent)

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h = functional.relu(self.MLP["L0"](torch.cat((x, c), 1)))  # (B, hidden)
        return self.linear_means(h), self.linear_log_var(h)


class Generator(nn.Module):
    """G(z, c) -> feature rows (B, features) in (0, 1); their norm is far from 1 at first (16 for 1024 features)."""

    def __init__(self, features: int, vector: int, hidden: int, latent: int):
        super().__init__()
        self.features = features
        self.MLP = nn.ModuleDict({
            "L0": nn.Linear(latent + vector, hidden),
            "L1": nn.Linear(hidden, features),
        })

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        h = functional.relu(self.MLP["L0"](torch.cat((z, c), 1)))  # (B, hidden)
        return torch.sigmoid(self.MLP["L1"](h))  # (B, features)


class Critic(nn.Module):
    """D(x, c) or, with ``vector`` 0, D2(x) -> score (B). Weights start at N(0, 0.02^2), biases at 0."""

    def __init__(self, features: int, vector: int, hidden: int):
        super().__init__()
        self.features = features
        self.fc1 = nn.Linear(features + vector, hidden)
        self.fc2 = nn.Linear(hidden, 1)
        for layer in (self.fc1, self.fc2):
            nn.init.normal_(layer.weight, 0.0, CRITIC_DEVIATION)
            nn.init.zeros_(layer.bias)

    def hidden(self, x: Tensor, c: Tensor | None) -> Tensor:
        return self.fc1(x if c is None else torch.cat((x, c), 1))  # (B, hidden), before the activation

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return self.fc2(functional.leaky_relu(self.hidden(x, c), LEAK))[:, 0]

    def input_gradient(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """-> d score / d x, (B, features), differentiable in the parameters.

        Written out, because the critic is piecewise linear: the activation's slope is constant almost everywhere, so
        this is what two passes of automatic differentiation give, for the price of one matrix product.
        """
        positive = (self.hidden(x, c).detach() > 0).to(x.dtype)  # (B, hidden)
        slope = positive + LEAK * (1 - positive)
        return (slope * self.fc2.weight) @ self.fc1.weight[:, : self.features]


class Networks(nn.Module):
    """E, G, D and, for the published behaviour only, D2; the keys are the released ones after ``E.``, ``G.`` ..."""

    def __init__(self, features: int, vector: int, settings: FvaeganSettings, unpaired: bool):
        super().__init__()
        self.E = Encoder(features, vector, settings.encoder_size, settings.latent_size)
        self.G = Generator(features, vector, settings.generator_size, settings.latent_size)
        self.D = Critic(features, vector, settings.critic_size)
        self.D2 = Critic(features, 0, settings.critic_size) if unpaired else None


def normalise(rows: Tensor) -> Tensor:
    """Divide each row by its L2 norm, at least 1e-12."""
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(NORM_FLOOR)


def critic_loss(
    critic: Critic, real: Tensor, fake: Tensor, mix: Tensor, c: Tensor | None, penalty_weight: float
) -> dict[str, Tensor]:
    """-> ``x_mean``, ``f_mean``, ``penalty`` (with its weight) and ``total`` = f_mean - x_mean + penalty.

    ``fake``: detached generator output; ``mix`` (B, 1) in [0, 1] multiplies the **real** row of the interpolate.
    The penalty's norm is over d score / d row alone, the class vector is held fixed; no epsilon inside the norm.
    """
    between = mix * real + (1 - mix) * fake
    penalty = penalty_weight * (critic.input_gradient(between, c).norm(dim=1) - 1).square().mean()
    x_mean, f_mean = critic(real, c).mean(), critic(fake, c).mean()
    return {"x_mean": x_mean, "f_mean": f_mean, "penalty": penalty, "total": f_mean - x_mean + penalty}


def latent(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """-> z = mean + exp(log_variance / 2) noise."""
    return mean + torch.exp(log_variance / 2) * noise


def generator_loss(
    networks: Networks, x: Tensor, c: Tensor, noise: Tensor, encoder_noise: Tensor, settings: FvaeganSettings,
    summed: bool,
) -> dict[str, Tensor]:
    """-> ``reconstruction``, ``divergence`` (both summed over the batch), ``r_mean``, ``f_mean`` and ``total``.

    ``summed``: the released total, whose GAN term weighs less the larger the batch is. Otherwise everything is divided
    such that the weighting is the released one of 64 rows for any batch size. D2 has no part in it.
    """
    mean, log_variance = networks.E(x, c)
    r = networks.G(latent(mean, log_variance, encoder_noise), c)  # (B, features)
    # torch refuses rows that are not finite, on a GPU by killing the process: let them come out as the loss instead
    reconstruction = functional.binary_cross_entropy(r.nan_to_num(0.5), x, reduction="sum") + (r - r).detach().sum()
    divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
    r_mean = networks.D(r, c).mean()
    f_mean = networks.D(networks.G(noise, c), c).mean()
    vae = settings.vae_weight * (reconstruction + divergence)
    gan = settings.gan_weight * (-r_mean - f_mean)
    total = gan + vae if summed else gan / PUBLISHED_BATCH + vae / len(x)
    return {"reconstruction": reconstruction, "divergence": divergence, "r_mean": r_mean, "f_mean": f_mean,
            "total": total}


@dataclass
class Updates:
    """The four networks with one Adam each, and the update of critics and of generator with encoder."""

    networks: Networks
    settings: FvaeganSettings
    summed: bool
    optimisers: dict[str, torch.optim.Optimizer] = field(init=False)

    def __post_init__(self) -> None:
        moments = (self.settings.first_moment, self.settings.second_moment)
        rate = self.settings.learning_rate
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), lr=rate, betas=moments, eps=1e-8, fused=True)
            for name, network in self.networks.named_children()
        }

    def critics(self, x: Tensor, c: Tensor, noise: Tensor, mix: Tensor, mix2: Tensor | None) -> dict[str, dict]:
        """One update of D and, where there is one, of D2 (``mix2`` is its interpolation). -> losses by critic.

        The released code builds the fake rows with gradients and clears what reaches G before G's own update; here they
        are made without, which gives the same critics.
        """
        settings = self.settings
        with torch.no_grad():
            fake = self.networks.G(noise, c)
        losses = {"D": critic_loss(self.networks.D, x, fake, mix, c, settings.penalty_weight)}
        total = losses["D"]["total"]
        if self.networks.D2 is not None:
            assert mix2 is not None
            losses["D2"] = critic_loss(self.networks.D2, x, fake, mix2, None, settings.penalty_weight)
            total = total + settings.unpaired_weight * losses["D2"]["total"]
        self._step(total, *losses)
        return losses

    def generator(self, x: Tensor, c: Tensor, noise: Tensor, encoder_noise: Tensor) -> dict[str, Tensor]:
        """One update of G and E against the present D. -> losses."""
        self.networks.D.requires_grad_(False)
        losses = generator_loss(self.networks, x, c, noise, encoder_noise, self.settings, self.summed)
        self._step(losses["total"], "G", "E")
        self.networks.D.requires_grad_(True)
        return losses

    def _step(self, total: Tensor, *names: str) -> None:
        for name in names:
            self.optimisers[name].zero_grad(set_to_none=True)
        total.backward()
        for name in names:
            self.optimisers[name].step()

    def state(self) -> dict:
        optimisers = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {"networks": self.networks.state_dict(), "optimisers": optimisers}

    def load(self, state: Mapping) -> None:
        self.networks.load_state_dict(state["networks"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
