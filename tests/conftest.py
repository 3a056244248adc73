"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder with the published splits, vectors, videos and golden outputs, from GZSL_REFERENCE_DATA.

    Unset: the test is skipped. Set to a folder that is not there: the test fails.
    """
    value = os.environ.get("GZSL_REFERENCE_DATA")
    if value is None:
        pytest.skip("GZSL_REFERENCE_DATA is not set: no reference material here")
    folder = Path(value)
    assert folder.is_dir(), f"GZSL_REFERENCE_DATA={value}: no such folder"
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """An undisturbed run over good videos and a few bad ones, for all tests of the group ``run``."""
    from tests.running import CLASSES, Run, make_folder

    folder = tmp_path_factory.mktemp("end_to_end")
    good = make_folder(folder) / CLASSES[0]
    (good / "empty.mp4").write_bytes(b"")
    (good / "page.mp4").write_text("<!DOCTYPE html><html><body>Video unavailable</body></html>")
    whole = (good / "000.mp4").read_bytes()
    (good / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    run = Run(folder)
    run.result = run.luigi()
    assert run.result.returncode == 0, run.result.stderr[-5000:]
    return run
