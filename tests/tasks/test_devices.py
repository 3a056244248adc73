"""GPU slots without a GPU: the choice, the lock and the errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.errors import SettingsError
from tasks import devices


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "gpus", lambda: [0, 1])
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_without_gpus_auto_is_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "gpus", list)
    with devices.slot("auto") as device:
        assert device == "cpu"
    assert devices.resources("auto") == {}
    with pytest.raises(SettingsError, match="found 0 GPUs on this machine"), devices.slot("cuda"):
        pass


def test_each_holder_gets_its_own(two_gpus):
    assert devices.resources("auto") == {"gpu": 1}
    with devices.slot("auto") as first, devices.slot("auto") as second:
        assert [first, second] == ["cuda:0", "cuda:1"]
    with devices.slot("cuda:1") as device:
        assert device == "cuda:1"
    with pytest.raises(SettingsError, match="cuda:5"), devices.slot("cuda:5"):
        pass


def test_a_killed_holder_frees_its_slot(two_gpus):
    lock = str(devices.lock_file(0))
    script = f"import fcntl, os, signal; h = open({lock!r}, 'a'); fcntl.flock(h, fcntl.LOCK_EX); " \
             "os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", script], check=False)
    with devices.slot("auto") as device:
        assert device == "cuda:0"
