"""Fixtures of acquisition."""

from __future__ import annotations

import threading

import pytest

from pipeline import demo, local_files
from tests.pipeline.acquisition import Server, new_run, probe_here


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> bytes:
    """A real video of 1.2 s."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    demo.write_video(path, "red_ball_bouncing/000.mp4", 0)
    return path.read_bytes()


@pytest.fixture
def fresh_run(monkeypatch, request):
    """A run begins, and headers are read in this process, unless ``children`` is asked for."""
    new_run(monkeypatch)
    if "children" not in request.fixturenames:
        monkeypatch.setattr(local_files, "probe_files", probe_here)


@pytest.fixture
def children():
    """Headers are read in child processes, as in a real run."""


@pytest.fixture
def server(video):
    with Server(video) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield running
        running.shutdown()
