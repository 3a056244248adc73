"""What only a GPU can show: the captured step gives what the plain one gives, run after run and after a restart."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from model import trainer
from model.stages import fit, stage_1
from pipeline.deviations import DEVIATIONS
from tests.model import tiny

pytestmark = pytest.mark.gpu
ALL = frozenset(DEVIATIONS)


@pytest.fixture(autouse=True)
def a_gpu():
    if not torch.cuda.is_available():
        assert not os.environ.get("GZSL_REQUIRE_GPU"), "GZSL_REQUIRE_GPU is set but PyTorch finds no CUDA device"
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def both_graphs(monkeypatch):
    """One step an epoch makes the passes for running statistics: both graphs are captured, one after the other."""
    monkeypatch.setattr(trainer, "statistics_steps", lambda momentum: 1)


def train(device, checkpoint=None, method="avca", **changes):
    benchmark = tiny.benchmark()
    spec = tiny.spec(method, device=device, **changes)
    return fit(benchmark, stage_1(benchmark, spec), spec, ALL, checkpoint)


@pytest.mark.parametrize("method", ["avca", "ale", "apn", "cjme", "avgzslnet"])
def test_the_captured_step_trains_as_the_cpu_does(method):
    still = {"encoder_dropout": 0.0, "projection_dropout": 0.0, "decoder_dropout": 0.0, "epochs": 1}
    gpu, cpu = train("cuda", method=method, **still), train("cpu", method=method, **still)
    np.testing.assert_allclose(gpu.history.loss, cpu.history.loss, rtol=1e-3)


def test_two_runs_and_a_restart_are_equal_to_the_bit(tmp_path, monkeypatch):
    from model.checkpoint import TrainingCheckpoint

    first = train("cuda")
    second = train("cuda")
    save = TrainingCheckpoint.save

    def save_and_stop(self, state, last):
        save(self, state, last)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingCheckpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train("cuda", tmp_path / "c.pt")
    monkeypatch.setattr(TrainingCheckpoint, "save", save)
    for other in (second, train("cuda", tmp_path / "c.pt")):
        assert first.history == other.history
        for name, value in first.state.items():
            np.testing.assert_array_equal(value, other.state[name])


def test_any_gpu_of_the_machine_trains_as_the_first_does():
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device only")
    first, last = train("cuda:0"), train(f"cuda:{torch.cuda.device_count() - 1}")
    assert first.history == last.history
