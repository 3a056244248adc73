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
