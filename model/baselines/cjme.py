"""CJME (Parida et al., WACV 2020): audio, video and text in one space, and an attention that picks the modality."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from model.baselines.avgzslnet import HIDDEN_KEYS, NET_KEYS, PROJECTED_SIZE
from model.batches import Batch
from model.embedding import EmbeddingModel, Sizes
from model.layers import BatchNorm, HiddenLayer
from model.losses import squared_error, triplet_hinges
from model.settings import EMBEDDING_SIZE, Spec

ENTROPY_GAP = 0.1


class CJME(EmbeddingModel):
    """Predicts by the video distance where the attention is at least 0.5, else by the audio distance.

    The attention sees [audio, video] (**audio first**).
    """

    outputs: ClassVar[tuple[str, ...]] = ("both", "audio", "video")
    calibration_branches: ClassVar[tuple[str, ...]] = ("audio", "video", "both")
    negatives: ClassVar[bool] = True

    def __init__(self, sizes: Sizes, spec: Spec, published: frozenset[str]):
        super().__init__()
        self.broadcast = "cjme_attention" in published
        rate = spec.encoder_dropout
        self.audio = HiddenLayer(sizes.audio, spec.hidden_size, PROJECTED_SIZE, rate)
        self.video = HiddenLayer(sizes.video, spec.hidden_size, PROJECTED_SIZE, rate)
        self.text = HiddenLayer(EMBEDDING_SIZE, EMBEDDING_SIZE, PROJECTED_SIZE, rate)
        self.attention_norm = BatchNorm(sizes.audio + sizes.video)
        self.attention = nn.Linear(sizes.audio + sizes.video, 1)

    def attend(self, audio: Tensor, video: Tensor) -> Tensor:
        """(B, Da), (B, Dv) -> weight of the video (B), 0 to 1."""
        both = torch.cat((audio, video), dim=1)[:, None]  # (B, 1, Da + Dv)
        return torch.sigmoid(self.attention(self.attention_norm(both)))[:, 0, 0]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """-> a, v, t of positives (_p) and negatives (_q), (B, 64); attention (B); class_embedding (C, 64)."""
        a, v, t = (torch.relu(net(x)) for net, x in (
            (self.audio, batch.audio), (self.video, batch.video), (self.text, batch.text)))  # (B, 2, 64)
        (a_p, a_q), (v_p, v_q), (t_p, t_q) = a.unbind(1), v.unbind(1), t.unbind(1)
        attention = self.attend(batch.audio[:, 0], batch.video[:, 0])
        with torch.no_grad():  # in training mode: dropout, and one more update of the text net's batch norm
            class_embedding = self.embed_classes(batch.class_vectors)
        return {"a_p": a_p, "v_p": v_p, "t_p": t_p, "a_q": a_q, "v_q": v_q, "t_q": t_q, "attention": attention,
                "class_embedding": class_embedding}

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        return self.terms_of(self(batch))

    def terms_of(self, out: dict[str, Tensor]) -> dict[str, Tensor]:
        attention = out["attention"]
        l_ta, l_tv = self.hinges(out)
        if self.broadcast:
            # cjme_attention: (B, 1) attention times (B) loss is a (B, B) matrix; this is its mean
            triplet = (1 - attention).mean() * l_ta.mean() + attention.mean() * l_tv.mean()
        else:
            triplet = ((1 - attention) * l_ta + attention * l_tv).mean()
        return {"triplet": triplet, "av": squared_error(out["a_p"], out["v_p"]),
                "attention": squared_error(attention, attention_target(out))}

    def hinges(self, out: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """-> triplet losses of audio and of video, (B) each."""
        l_ta, l_tv = triplet_hinges({"ta": (out["t_p"], out["a_p"], out["a_q"]),
                                     "tv": (out["t_p"], out["v_p"], out["v_q"])})
        return l_ta, l_tv

    def embed(self, audio: Tensor, video: Tensor) -> dict[str, Tensor]:
        a, v = torch.relu(self.audio(audio[:, None])), torch.relu(self.video(video[:, None]))
        return {"audio": a[:, 0], "video": v[:, 0], "attention": self.attend(audio, video)}

    def embed_classes(self, vectors: Tensor) -> Tensor:
        return torch.relu(self.text(vectors[:, None]))[:, 0]

    def distances(self, embedded: dict[str, Tensor], classes: Tensor) -> dict[str, Tensor]:
        a, v = (torch.cdist(embedded[name], classes) for name in ("audio", "video"))
        return {"both": torch.where((embedded["attention"] >= 0.5)[:, None], v, a), "audio": a, "video": v}

    def embedding(self, embedded: dict[str, Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
        """Of the modality that the attention picks."""
        picks_video = (embedded["attention"] >= 0.5)[:, None]
        return torch.where(picks_video, embedded["video"], embedded["audio"]), classes

    @classmethod
    def published_keys(cls) -> dict[str, str]:
        keys = {f"{ours}.{inner}": f"{theirs}.{key}" for ours, theirs in NET_KEYS.items()
                for inner, key in HIDDEN_KEYS.items()}
        return keys | {"attention_norm": "attention_model.0", "attention": "attention_model.1"}


def entropies(out: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """-> entropy in nat of audio's and of video's softmax over the classes, (B) each; without gradient."""
    found = []
    for name in ("a_p", "v_p"):
        log = (out[name].detach() @ out["class_embedding"].T).log_softmax(dim=1)  # (B, C)
        found.append(-(log.exp() * log).sum(dim=1))
    return found[0], found[1]


def attention_target(out: dict[str, Tensor]) -> Tensor:
    """-> (B): 1 where the video is surer of its class than the audio by 0.1 nat, 0 where the audio is, else 0.5."""
    audio, video = entropies(out)
    audio_surer, video_surer = video - audio - ENTROPY_GAP > 0, audio - video - ENTROPY_GAP > 0
    return 0.5 + (video_surer.to(audio.dtype) - audio_surer.to(audio.dtype)) / 2
