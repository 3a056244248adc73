"""How large a model is and what it computes (appendix B.4)."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from model import registry
from model.batches import Batch
from model.embedding import EmbeddingModel, Sizes
from model.protocol import State
from model.settings import EMBEDDING_SIZE, Spec

# running statistics, and the class ids of f-VAEGAN's classifiers
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "classes")
ROWS = 256


def parameter_count(state: State) -> int:
    """-> numbers in the parameters; buffers left out."""
    return int(sum(np.asarray(value).size for name, value in state.items() if name.split(".")[-1] not in BUFFERS))


def forward_gflops(spec: Spec, published: frozenset[str], audio: int, video: int, classes: int) -> float | None:
    """-> 1e9 floating-point operations (2 per multiply and add) of the matrix products of one training forward pass.

    The pass is over 256 positives and, for methods that use them, 256 negatives, as the paper counts; ``classes``:
    training classes. AVCA's passes for running statistics count where they are ``published``, as in the paper; the
    projection that ALE, SJE and DEVISE were released with twice counts once, as it is made here. None for a method of
    another kind (f-VAEGAN). Nothing is computed: the tensors have shapes alone.
    """
    found = registry.load(spec.method)
    if not issubclass(found, EmbeddingModel):
        return None
    with torch.device("meta"), torch.no_grad():
        model = found(Sizes(audio, video), spec, published)  # type: ignore[call-arg, arg-type]
        model.train()
        groups = 2 if model.negatives else 1
        inputs = [torch.empty(ROWS, groups, width) for width in (audio, video, EMBEDDING_SIZE)]
        batch = Batch(inputs[0], inputs[1], inputs[2], torch.zeros(ROWS, dtype=torch.int64),
                      torch.empty(classes, EMBEDDING_SIZE))
        with FlopCounterMode(display=False) as counter:
            model.loss_terms(batch)
    return counter.get_total_flops() / 1e9
