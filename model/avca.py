"""AVCA: audio-visual cross-attention (Mercea et al., CVPR 2022), in the released form.

Parts -> whole: encoders, cross-attention, projections, reconstructions and decoder; then the loss of equations 5 to 10.
Names are the paper's: phi encoded, theta projected, rho decoded; _w of the class vector, _a audio, _v video.

Where the released code differs from the paper's text, this follows the code (docs/reproduction.md): pre-norm, one
shared transformer layer, a positional offset, outputs after ReLU and dropout, hinges at 0, batch norms that see
positives and negatives apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from model.batches import Batch
from model.embedding import EmbeddingModel, Sizes
from model.layers import CrossAttention, OneLayer, TwoLayer
from model.losses import squared_error, triplet_terms
from model.settings import EMBEDDING_SIZE, Spec

PROJECTED_SIZE = 64
HEADS, HEAD_SIZE, FEED_FORWARD_SIZE = 3, 100, 64
MODALITIES = ("audio", "visual")
LETTER = {"audio": "a", "visual": "v"}
# Released names of our modules.
BLOCK_KEYS = {"hidden.linear": "fc.0", "hidden.norm": "fc.1", "output.linear": "fc.4", "output.norm": "fc.5"}
LAYER_KEYS = {"linear": "fc.0", "norm": "fc.1"}
ATTENTION_KEYS = {
    "attention.norm": "layers.0.0.norm", "attention.qkv": "layers.0.0.fn.to_qkv",
    "attention.out": "layers.0.0.fn.to_out.0", "feed_forward.norm": "layers.0.1.norm",
    "feed_forward.inner": "layers.0.1.fn.net.0", "feed_forward.outer": "layers.0.1.fn.net.3",
}


class AVCA(EmbeddingModel):
    """The whole model. Its ablations declare other ``branches``, ``attends`` or ``removed``.

    ``branches``: modalities that have projection, reconstruction and loss terms. ``removed``: groups of loss terms.
    """

    outputs: ClassVar[tuple[str, ...]] = ("theta_v", "theta_a", "mean", "smaller")
    branches: ClassVar[tuple[str, ...]] = MODALITIES
    attends: ClassVar[bool] = True
    removed: ClassVar[tuple[str, ...]] = ()
    negatives: ClassVar[bool] = True
    calibration_branches: ClassVar[tuple[str, ...]] = ("theta_v", "theta_v", "theta_v")

    def __init__(self, sizes: Sizes, spec: Spec, published: frozenset[str]):
        super().__init__()
        self.extra_passes = "batchnorm_passes" in published
        self.offset_trained = "position_offset" not in published
        widths = {"audio": sizes.audio, "visual": sizes.video}
        encoded = MODALITIES if self.attends else self.branches
        self.encoder = nn.ModuleDict({
            name: TwoLayer(widths[name], spec.hidden_size, EMBEDDING_SIZE, spec.encoder_dropout, spec.momentum)
            for name in encoded
        })
        if self.attends:
            self.cross_attention = CrossAttention(
                EMBEDDING_SIZE, HEADS, HEAD_SIZE, FEED_FORWARD_SIZE, spec.encoder_dropout
            )
            self.position = nn.Parameter(torch.randn(2, EMBEDDING_SIZE))
        self.projection = nn.ModuleDict({
            name: TwoLayer(EMBEDDING_SIZE, spec.projection_hidden_size, PROJECTED_SIZE, spec.projection_dropout,
                           spec.momentum)
            for name in self.branches
        })
        self.word_projection = OneLayer(EMBEDDING_SIZE, PROJECTED_SIZE, spec.decoder_dropout)
        self.decoder = OneLayer(PROJECTED_SIZE, EMBEDDING_SIZE, spec.decoder_dropout)
        self.reconstruction = nn.ModuleDict({
            name: OneLayer(PROJECTED_SIZE, EMBEDDING_SIZE, spec.decoder_dropout) for name in self.branches
        })

    def trained(self) -> Iterator[nn.Parameter]:
        """Parameters that the optimiser gets. The released one never gets the positional offset."""
        for name, parameter in self.named_parameters():
            if self.offset_trained or name != "position":
                yield parameter

    def encode(self, audio: Tensor, video: Tensor) -> dict[str, Tensor]:
        """(B, G, Da), (B, G, Dv) -> phi, (B, G, 300) each."""
        inputs = {"audio": audio, "visual": video}
        return {name: encoder(inputs[name]) for name, encoder in self.encoder.items()}

    def attend(self, phi: dict[str, Tensor]) -> dict[str, Tensor]:
        """phi (B, G, 300) -> the same after cross-attention; without it, unchanged."""
        if not self.attends:
            return phi
        tokens = torch.stack([phi["audio"], phi["visual"]], dim=2) + self.position  # (B, G, 2, 300)
        attended = self.cross_attention(tokens.flatten(0, 1)).view_as(tokens)
        audio, visual = attended.unbind(2)
        return {"audio": audio, "visual": visual}

    def to_project(self, phi: dict[str, Tensor]) -> dict[str, Tensor]:
        """-> what the projections get: phi plus phi after attention, which holds phi once more."""
        if not self.attends:
            return phi
        attended = self.attend(phi)
        return {name: phi[name] + attended[name] for name in self.branches}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """-> all quantities of the loss, (B, G, ...); ``rho_w`` without its negatives unless the extra passes run."""
        phi = self.encode(batch.audio, batch.video)
        inputs = self.to_project(phi)
        theta = {name: self.projection[name](inputs[name]) for name in self.branches}  # (B, G, 64)
        theta_w = self.word_projection(batch.text)  # (B, G, 64)
        reconstructed = {name: self.reconstruction[name](theta[name][:, :1]) for name in self.branches}  # (B, 1, 300)
        if self.training and self.extra_passes:
            self.observe_reconstructions(reconstructed)
        kept = theta_w if self.extra_passes else theta_w[:, :1]
        rho = self.decoder(torch.cat([kept, *theta.values()], dim=1))  # (B, 6 or 5, 300)
        groups = [kept.shape[1], *(value.shape[1] for value in theta.values())]
        rho_w, *rho_m = rho.split(groups, dim=1)
        out = {"theta_w": theta_w, "rho_w": rho_w}
        for name, rho_one in zip(self.branches, rho_m, strict=True):
            letter = LETTER[name]
            out |= {f"phi_{letter}": phi[name], f"theta_{letter}": theta[name], f"rho_{letter}": rho_one,
                    f"phi_{letter}_rec": reconstructed[name]}
        return out

    @torch.no_grad()
    def observe_reconstructions(self, reconstructed: dict[str, Tensor]) -> None:
        """batchnorm_passes: the released code also projects the reconstructions, and uses nothing of it."""
        if self.statistics_matter:
            for name in self.branches:
                self.projection[name].observe(reconstructed[name])  # type: ignore[operator]

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """batchnorm_passes: the released code embeds the positives in training mode with the updated weights."""
        if self.extra_passes and self.statistics_matter:
            inputs = self.to_project(self.encode(batch.audio[:, :1], batch.video[:, :1]))
            self.word_projection.observe(batch.text[:, :1])
            for name in self.branches:
                self.projection[name].observe(inputs[name])  # type: ignore[operator]

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """-> single terms; their sum is the loss. Groups: l_t (Eq. 5), l_rec (7), l_ct (8), l_w (9), l_r (10)."""
        return self.terms_of(self(batch), batch.text[:, 0])

    def terms_of(self, out: dict[str, Tensor], w: Tensor) -> dict[str, Tensor]:
        theta_w, theta_w_neg = out["theta_w"].unbind(1)
        rho_w = out["rho_w"][:, 0]
        projected: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        decoded: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        errors: dict[str, tuple[Tensor, Tensor]] = {"l_rec.w": (w, rho_w)}
        for m in (LETTER[name] for name in self.branches):
            theta, theta_neg = out[f"theta_{m}"].unbind(1)
            rho, rho_neg = out[f"rho_{m}"].unbind(1)
            projected |= {
                f"l_t.{m}": (theta, theta_w, theta_neg), f"l_t.w{m}": (theta_w, theta, theta_w_neg),
                f"l_w.t{m}": (theta_w, theta, theta_neg), f"l_w.{m}t": (theta, theta_w, theta_w_neg),
            }
            decoded[f"l_ct.{m}"] = (rho_w, rho, rho_neg)
            errors |= {f"l_rec.{m}": (w, rho), f"l_r.rec_{m}": (out[f"phi_{m}_rec"][:, 0], out[f"phi_{m}"][:, 0]),
                       f"l_r.{m}w": (theta, theta_w)}
        terms: dict[str, Tensor] = {}
        for triplets in (projected, decoded):
            used = {name: value for name, value in triplets.items() if self.uses(name)}
            if used:
                terms |= triplet_terms(used)
        return terms | {name: squared_error(*pair) for name, pair in errors.items() if self.uses(name)}

    def uses(self, term: str) -> bool:
        return term.partition(".")[0] not in self.removed

    def embed(self, audio: Tensor, video: Tensor) -> dict[str, Tensor]:
        """(N, Da), (N, Dv) -> theta, (N, 64) each."""
        inputs = self.to_project(self.encode(audio[:, None], video[:, None]))
        return {f"theta_{LETTER[name]}": self.projection[name](inputs[name])[:, 0] for name in self.branches}

    def embed_classes(self, vectors: Tensor) -> Tensor:
        """(C, 300) -> theta_w (C, 64)."""
        return self.word_projection(vectors[:, None])[:, 0]

    def distances(self, embedded: dict[str, Tensor], classes: Tensor) -> dict[str, Tensor]:
        """-> output -> (N, C), L2. The nearest class of theta_v is the standard prediction (section 3.3)."""
        single = {name: torch.cdist(value, classes) for name, value in embedded.items()}
        v, a = single["theta_v"], single["theta_a"]
        return {"theta_v": v, "theta_a": a, "mean": (v + a) / 2, "smaller": torch.minimum(v, a)}

    def embedding(self, embedded: dict[str, Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
        return embedded["theta_v"], classes

    @classmethod
    def published_keys(cls) -> dict[str, str]:
        letters = {name: LETTER[name].upper() for name in MODALITIES}
        keys = {"position": "pos_emb1D"}
        for name, letter in letters.items():
            for ours, theirs in BLOCK_KEYS.items():
                keys[f"encoder.{name}.{ours}"] = f"{letter}_enc.{theirs}"
                keys[f"projection.{name}.{ours}"] = f"{letter}_proj.{theirs}"
            for ours, theirs in LAYER_KEYS.items():
                keys[f"reconstruction.{name}.{ours}"] = f"{letter}_rec.{theirs}"
        for ours, theirs in LAYER_KEYS.items():
            keys |= {f"word_projection.{ours}": f"W_proj.{theirs}", f"decoder.{ours}": f"D.{theirs}"}
        attention = {f"cross_attention.{ours}": f"cross_attention.{theirs}" for ours, theirs in ATTENTION_KEYS.items()}
        return keys | attention
