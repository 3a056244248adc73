"""GPU slots without a GPU: the choice, the locks and the errors."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import threading

import pytest

from pipeline.errors import SettingsError
from tasks import devices


@pytest.fixture
def no_wait(monkeypatch, tmp_path):
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(devices, "POLL_S", 0.01)
    monkeypatch.setattr(devices, "works", lambda: True)


@pytest.fixture
def two_gpus(monkeypatch, no_wait):
    monkeypatch.setattr(devices, "gpus", lambda: ["0", "1"])


@pytest.fixture
def one_gpu(monkeypatch, no_wait):
    monkeypatch.setattr(devices, "gpus", lambda: ["0"])


@pytest.mark.parametrize(("visible", "names"), [
    (None, ["0", "1", "2"]), ("", []), ("-1", []), ("none", []), ("2, 0", ["2", "0"]), ("1,-1,0", ["1"]),
    ("0,3,1", ["0"]), ("1,1", []), ("GPU-8932f937,MIG-1", ["GPU-8932f937", "MIG-1"]),
])
def test_gpus_are_those_that_cuda_shows(monkeypatch, tmp_path, visible, names):
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "Path", lambda folder: tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpus() == names


def test_without_gpus_auto_is_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "gpus", list)
    with devices.slot("auto", whole=True) as device:
        assert device == "cpu"
    assert devices.resources("auto", "gpu") == {}
    with pytest.raises(SettingsError, match="found 0 GPUs on this machine; set"), devices.slot("cuda", whole=True):
        pass


def test_gpus_that_torch_cannot_use(two_gpus, monkeypatch, caplog):
    monkeypatch.setattr(devices, "works", lambda: False)
    monkeypatch.setattr(devices.logger, "propagate", True)
    with devices.slot("auto", whole=False) as device:
        assert device == "cpu"
    assert "found 2 GPUs that torch can't use; computing on the CPU" in caplog.text
    with pytest.raises(SettingsError, match="found 2 GPUs .* that torch can't use; set"), devices.slot("cuda", True):
        pass


def test_each_extraction_gets_its_own(two_gpus):
    assert devices.resources("auto", "gpu") == {"gpu": 1}
    with devices.slot("auto", whole=True) as first, devices.slot("auto", whole=True) as second:
        assert [first, second] == ["cuda:0", "cuda:1"]
    with devices.slot("cuda:1", whole=True) as device:
        assert device == "cuda:1"
    with pytest.raises(SettingsError, match="cuda:5"), devices.slot("cuda:5", whole=True):
        pass


def test_trainings_share_and_spread(two_gpus):
    with contextlib.ExitStack() as stack:
        took = [stack.enter_context(devices.slot("auto", whole=False)) for _ in range(2 * devices.SHARES)]
    assert took == ["cuda:0", "cuda:1"] * devices.SHARES
    with devices.slot("auto", whole=False) as training, devices.slot("auto", whole=True) as extraction:
        assert (training, extraction) == ("cuda:0", "cuda:1")


def test_an_extraction_waits_for_trainings_and_none_overtakes(one_gpu):
    order = []

    def take(name: str, whole: bool) -> None:
        with devices.slot("cuda", whole=whole):
            order.append(name)

    with contextlib.ExitStack() as stack:
        for _ in range(devices.SHARES - 1):
            stack.enter_context(devices.slot("cuda", whole=False))
        extraction = threading.Thread(target=take, args=("extraction", True))
        extraction.start()
        while devices.locked(probe := devices.opened(devices.lock_file("0", 0))):
            probe.close()
        training = threading.Thread(target=take, args=("training", False))
        training.start()
        training.join(0.1)
        assert order == []
    extraction.join()
    training.join()
    assert order == ["extraction", "training"]


def test_an_error_while_a_slot_is_held_comes_out(one_gpu):
    with pytest.raises(BlockingIOError, match="mine"), devices.slot("auto", whole=False):
        raise BlockingIOError("mine")


def test_a_killed_holder_frees_its_slot(one_gpu):
    devices.opened(devices.lock_file("0", 0)).close()
    lock = str(devices.lock_file("0", 0))
    script = f"import fcntl, os, signal; h = open({lock!r}); fcntl.flock(h, fcntl.LOCK_EX); " \
             "os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", script], check=False)
    with devices.slot("auto", whole=True) as device:
        assert device == "cuda:0"


def test_a_lock_of_somebody_else_can_be_held(one_gpu, monkeypatch):
    before = os.umask(0o077)
    try:
        devices.opened(devices.lock_file("0", 0)).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(devices.lock_file("0", 0).stat().st_mode) == 0o644
    devices.lock_file("0", 0).chmod(0o444)
    with devices.opened(devices.lock_file("0", 0)) as file:
        assert devices.locked(file)
