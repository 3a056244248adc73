"""How large a model is and what it computes (appendix B.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from model import registry
from model.batches import Batch
from model.embedding import EmbeddingModel, Sizes
from model.protocol import State
from model.settings import EMBEDDING_SIZE, Spec

# running statistics, and the class ids of f-VAEGAN's classifiers
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "classes")
ROWS = 256
PRODUCTS = {torch.nn.functional.linear, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul, torch.bmm}


class ProductCounter(TorchFunctionMode):
    """Counts the multiplications of matrix products. PyTorch's FlopCounterMode agrees, and takes a second to load."""

    multiplications = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if function in PRODUCTS:
            self.multiplications += out.numel() * args[0].shape[-1]
        return out


def parameter_count(state: State) -> int:
    """-> numbers in the parameters; buffers left out."""
    return int(sum(np.asarray(value).size for name, value in state.items() if name.split(".")[-1] not in BUFFERS))


def forward_gflops(spec: Spec, published: frozenset[str], audio: int, video: int, classes: int) -> float | None:
    """-> 1e9 floating-point operations (2 per multiply and add) of the matrix products of one training forward pass.

    The pass is over 256 positives and, for methods that use them, 256 negatives, as the paper counts; ``classes``:
    training classes. AVCA's passes for running statistics count where they are ``published``, as in the paper; the
    projection that ALE, SJE and DEVISE were released with twice counts once, as it is made here. None for a method of
    another kind (f-VAEGAN). Leaves the random numbers as they are.
    """
    found = registry.load(spec.method)
    if not issubclass(found, EmbeddingModel):
        return None
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = found(Sizes(audio, video), spec, published)  # type: ignore[call-arg, arg-type]
        model.train()
        groups = 2 if model.negatives else 1
        inputs = [torch.zeros(ROWS, groups, width) for width in (audio, video, EMBEDDING_SIZE)]
        batch = Batch(inputs[0], inputs[1], inputs[2], torch.zeros(ROWS, dtype=torch.int64),
                      torch.zeros(classes, EMBEDDING_SIZE))
        with ProductCounter() as counter:
            model.loss_terms(batch)
    return 2 * counter.multiplications / 1e9
