"""The one training step of the embedding methods.

A step is: gather, forward, loss, backward, Adam, what the model does after the step. Loss terms stay on the device
until the epoch ends, when they are looked at once. On a GPU the step is captured as a graph and replayed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.batches import TrainingData
from model.embedding import EmbeddingModel
from model.layers import BatchNorm
from model.settings import Spec

# What a running statistic may still hold of a pass that is left out, by the time it is read: below the resolution of
# either precision.
FORGOTTEN = 3e-18


def statistics_steps(momentum: float) -> int:
    """-> how many last steps of an epoch have to make the passes that only move running statistics.

    A step with such a pass moves a statistic twice, each time leaving 1 - ``momentum`` of what it held.
    """
    return math.ceil(math.log(FORGOTTEN) / (2 * math.log1p(-momentum))) if momentum < 1 else 1


class Trainer:
    """Model, optimiser and data of one stage on one device."""

    def __init__(self, model: EmbeddingModel, data: TrainingData, spec: Spec, device: torch.device):
        self.model, self.device = model.to(device), device
        self.data = data.to(device)
        graphs = device.type == "cuda"
        # a graph reads the rate from the device, so that it can change between replays
        rate: Any = torch.tensor(spec.learning_rate, device=device) if graphs else spec.learning_rate
        self.optimiser = torch.optim.Adam(
            list(model.trained()), lr=rate, weight_decay=spec.weight_decay, fused=True, capturable=graphs
        )
        self.names: tuple[str, ...] = ()
        self.graphs: dict[bool, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        # the slowest of the model's batch norms decides
        slowest = min((module.momentum for module in model.modules() if isinstance(module, BatchNorm)), default=1.0)
        self.statistics_steps = statistics_steps(slowest)

    def set_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def step(self, index: Tensor) -> Tensor:
        """One update on the videos ``index`` (B, G); -> loss terms before it (terms), on the device."""
        batch = self.data.batch(index)
        terms = self.model.loss_terms(batch)
        self.names = tuple(terms)
        stacked = torch.stack(list(terms.values()))
        self.optimiser.zero_grad(set_to_none=True)
        stacked.sum().backward()
        self.optimiser.step()
        self.model.after_step(batch)
        return stacked.detach()

    def epoch(self, index: Tensor, advance: Callable[[], None]) -> np.ndarray:
        """``index`` (batches, B, G) -> loss terms (batches, terms)."""
        self.model.train()
        index = index.to(self.device)
        step = self.replay if self.device.type == "cuda" else self.step
        record = []
        for number, row in enumerate(index):
            self.model.statistics_matter = number >= len(index) - self.statistics_steps
            record.append(step(row).clone())
            advance()
        self.model.statistics_matter = True
        return torch.stack(record).double().cpu().numpy()

    def replay(self, index: Tensor) -> Tensor:
        """``step`` as a captured graph, one with and one without the passes for running statistics."""
        which = self.model.statistics_matter
        if which not in self.graphs:
            self.graphs[which] = self.capture(index)
        graph, static_index, static_terms = self.graphs[which]
        static_index.copy_(index)
        graph.replay()
        return static_terms

    def capture(self, index: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """Capture a step; the steps that warm it up leave no trace in parameters, optimiser or random numbers."""
        before = self.snapshot()
        static_index = index.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step(static_index)
        torch.cuda.current_stream().wait_stream(stream)
        self.optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            static_terms = self.step(static_index)
        self.restore(before)
        return graph, static_index, static_terms

    def snapshot(self) -> dict[str, Any]:
        return {
            "tensors": {name: value.clone() for name, value in self.model.state_dict().items()},
            "optimiser": {
                parameter: {key: value.clone() for key, value in entry.items()}
                for parameter, entry in self.optimiser.state.items()
            },
            "random": torch.cuda.get_rng_state(self.device),
        }

    def restore(self, before: dict[str, Any]) -> None:
        """Put values back in place: a graph holds the addresses."""
        for name, value in self.model.state_dict().items():
            value.copy_(before["tensors"][name])
        for parameter, entry in self.optimiser.state.items():
            for key, value in entry.items():
                kept = before["optimiser"].get(parameter)
                value.copy_(kept[key]) if kept else value.zero_()
        torch.cuda.set_rng_state(before["random"], self.device)
