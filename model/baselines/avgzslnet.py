"""AVGZSLNet (Mazumder et al., WACV 2021): nets of audio, video and text to one space, and a decoder back to text."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from model.batches import Batch
from model.embedding import EmbeddingModel, Sizes
from model.layers import HiddenLayer
from model.losses import triplet_terms
from model.settings import EMBEDDING_SIZE, Spec

PROJECTED_SIZE = 64
HIDDEN_KEYS = {"hidden.linear": "fc.0", "hidden.norm": "fc.1", "output": "fc.4"}
NET_KEYS = {"audio": "triplet_net.embedding_net1", "video": "triplet_net.embedding_net2",
            "text": "triplet_net.embedding_net3"}


class AVGZSLNet(EmbeddingModel):
    """Predicts by the sum of the audio and the video distance."""

    outputs: ClassVar[tuple[str, ...]] = ("both", "audio", "video")
    calibration_branches: ClassVar[tuple[str, ...]] = ("audio", "video", "both")
    negatives: ClassVar[bool] = True

    def __init__(self, sizes: Sizes, spec: Spec, published: frozenset[str]):
        super().__init__()
        rate = spec.encoder_dropout
        self.audio = HiddenLayer(sizes.audio, spec.hidden_size, PROJECTED_SIZE, rate)
        self.video = HiddenLayer(sizes.video, spec.hidden_size, PROJECTED_SIZE, rate)
        self.text = HiddenLayer(EMBEDDING_SIZE, EMBEDDING_SIZE, PROJECTED_SIZE, rate)
        self.decoder = HiddenLayer(
            PROJECTED_SIZE, spec.projection_hidden_size, EMBEDDING_SIZE, spec.projection_dropout
        )

    def project(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """(B, G, Da), (B, G, Dv) -> a, v, (B, G, 64) each."""
        return self.audio(audio), self.video(video)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """-> a, v, t of positives (_p) and negatives (_q), (B, 64), and the decoded, unit rows (B, 300)."""
        a, v = self.project(batch.audio, batch.video)
        t = self.text(batch.text)
        (a_p, a_q), (v_p, v_q), (t_p, t_q) = a.unbind(1), v.unbind(1), t.unbind(1)
        coded = torch.stack((a_p, v_p, t_p, a_q, v_q), dim=1)  # (B, 5, 64)
        decoded = functional.normalize(self.decoder(coded), dim=2).unbind(1)
        names = ("x_ta_p", "x_tv_p", "x_tt_p", "x_ta_q", "x_tv_q")
        return {"a_p": a_p, "v_p": v_p, "t_p": t_p, "a_q": a_q, "v_q": v_q, "t_q": t_q,
                **dict(zip(names, decoded, strict=True))}

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        return self.terms_of(self(batch), batch.text[:, 0])

    def terms_of(self, out: dict[str, Tensor], w: Tensor) -> dict[str, Tensor]:
        """l_rec is the mean L2 norm of the difference, not a squared error."""
        rec = sum(torch.linalg.vector_norm(out[name] - w, dim=1).mean() for name in ("x_tt_p", "x_ta_p", "x_tv_p"))
        assert isinstance(rec, Tensor)
        coded = {
            "l_ta": (out["t_p"], out["a_p"], out["a_q"]), "l_at": (out["a_p"], out["t_p"], out["t_q"]),
            "l_tv": (out["t_p"], out["v_p"], out["v_q"]), "l_vt": (out["v_p"], out["t_p"], out["t_q"]),
        }
        decoded = {
            "l_cta": (out["x_tt_p"], out["x_ta_p"], out["x_ta_q"]),
            "l_ctv": (out["x_tt_p"], out["x_tv_p"], out["x_tv_q"]),
        }
        return {"l_rec": rec, **triplet_terms(decoded), **triplet_terms(coded)}

    def embed(self, audio: Tensor, video: Tensor) -> dict[str, Tensor]:
        a, v = self.project(audio[:, None], video[:, None])
        return {"audio": a[:, 0], "video": v[:, 0]}

    def embed_classes(self, vectors: Tensor) -> Tensor:
        return self.text(vectors[:, None])[:, 0]

    def distances(self, embedded: dict[str, Tensor], classes: Tensor) -> dict[str, Tensor]:
        a, v = (torch.cdist(embedded[name], classes) for name in ("audio", "video"))
        return {"both": a + v, "audio": a, "video": v}

    def embedding(self, embedded: dict[str, Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
        """Both modalities side by side against the class twice: what the sum of distances looks at."""
        return torch.cat((embedded["audio"], embedded["video"]), dim=1), torch.cat((classes, classes), dim=1)

    @classmethod
    def published_keys(cls) -> dict[str, str]:
        nets = NET_KEYS | {"decoder": "decoder_net.embedding_net"}
        return {f"{ours}.{inner}": f"{theirs}.{key}" for ours, theirs in nets.items()
                for inner, key in HIDDEN_KEYS.items()}
