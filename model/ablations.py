"""Ablations of AVCA (tables 3, 4, 6, 9 and 10), each a class that declares what is left, and AVGZSLNet with attention.

Table 5 needs no class: theta_v, theta_a, their mean and the smaller of both are outputs of one training.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from model.avca import (
    AVCA,
    FEED_FORWARD_SIZE,
    HEAD_SIZE,
    HEADS,
    LETTER,
)
from model.baselines.avgzslnet import PROJECTED_SIZE, AVGZSLNet
from model.embedding import Sizes
from model.layers import CrossAttention, HiddenLayer
from model.settings import EMBEDDING_SIZE, Spec


class OneBranch(AVCA):
    """One branch predicts: its projection, reconstruction and loss terms are all there are."""

    def distances(self, embedded: dict[str, Tensor], classes: Tensor) -> dict[str, Tensor]:
        return {name: torch.cdist(value, classes) for name, value in embedded.items()}

    def embedding(self, embedded: dict[str, Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
        return embedded[f"theta_{LETTER[self.branches[0]]}"], classes


class VisualBranch(OneBranch):
    """Cross-attention stays, hence both encoders; the audio projection and all that needs it go."""

    outputs: ClassVar[tuple[str, ...]] = ("theta_v",)
    calibration_branches: ClassVar[tuple[str, ...]] = ("theta_v",)
    branches: ClassVar[tuple[str, ...]] = ("visual",)


class AudioBranch(OneBranch):
    """Cross-attention stays, hence both encoders; the visual projection and all that needs it go."""

    outputs: ClassVar[tuple[str, ...]] = ("theta_a",)
    calibration_branches: ClassVar[tuple[str, ...]] = ("theta_a",)
    branches: ClassVar[tuple[str, ...]] = ("audio",)


class VisualAlone(VisualBranch):
    """No cross-attention and no audio at all."""

    attends: ClassVar[bool] = False


class AudioAlone(AudioBranch):
    """No cross-attention and no video at all."""

    attends: ClassVar[bool] = False


class NoAttention(AVCA):
    """Both branches side by side; predicts by the mean of their distances."""

    outputs: ClassVar[tuple[str, ...]] = ("mean", "theta_v", "theta_a")
    calibration_branches: ClassVar[tuple[str, ...]] = ("mean",)
    attends: ClassVar[bool] = False

    def distances(self, embedded: dict[str, Tensor], classes: Tensor) -> dict[str, Tensor]:
        found = super().distances(embedded, classes)
        return {name: found[name] for name in self.outputs}

    def embedding(self, embedded: dict[str, Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat((embedded["theta_a"], embedded["theta_v"]), dim=1)
        return both, torch.cat((classes, classes), dim=1)


class MinusTriplet(AVCA):
    removed: ClassVar[tuple[str, ...]] = ("l_t",)


class MinusReconstruction(AVCA):
    removed: ClassVar[tuple[str, ...]] = ("l_rec",)


class MinusCrossTriplet(AVCA):
    removed: ClassVar[tuple[str, ...]] = ("l_ct",)


class MinusWordTriplet(AVCA):
    removed: ClassVar[tuple[str, ...]] = ("l_w",)


class MinusRegularisation(AVCA):
    removed: ClassVar[tuple[str, ...]] = ("l_r",)


class AVGZSLNetAttention(AVGZSLNet):
    """AVGZSLNet's nets, with AVCA's cross-attention between their two halves, and AVGZSLNet's loss.

    The paper says no more than that; here the first half of the audio and of the video net ends at AVCA's 300 numbers,
    which the block takes, and a linear layer leads from phi plus phi after attention (as in AVCA) to 64.
    """

    released: ClassVar[bool] = False

    def __init__(self, sizes: Sizes, spec: Spec, published: frozenset[str]):
        super().__init__(sizes, spec, published)
        rate = spec.encoder_dropout
        self.audio = HiddenLayer(sizes.audio, spec.hidden_size, EMBEDDING_SIZE, rate)
        self.video = HiddenLayer(sizes.video, spec.hidden_size, EMBEDDING_SIZE, rate)
        self.cross_attention = CrossAttention(EMBEDDING_SIZE, HEADS, HEAD_SIZE, FEED_FORWARD_SIZE, rate)
        self.audio_head = nn.Linear(EMBEDDING_SIZE, PROJECTED_SIZE)
        self.video_head = nn.Linear(EMBEDDING_SIZE, PROJECTED_SIZE)

    def project(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        phi = torch.stack((self.audio(audio), self.video(video)), dim=2)  # (B, G, 2, 300)
        attended = phi + self.cross_attention(phi.flatten(0, 1)).view_as(phi)
        return self.audio_head(attended[:, :, 0]), self.video_head(attended[:, :, 1])  # (B, G, 64) each
