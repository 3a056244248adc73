"""A fresh configuration and artefact folder for each test."""

from __future__ import annotations

import pytest
from luigi.configuration import LuigiConfigParser

from tasks import base


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """-> function(section={key: value}) that replaces the configuration; artefacts go below ``tmp_path/data``."""
    parser = LuigiConfigParser()
    monkeypatch.setattr(LuigiConfigParser, "_instance", parser)

    def change(**sections):
        for section, values in {"paths": {"root": str(tmp_path / "data")}, **sections}.items():
            for key, value in values.items():
                parser.set(section, key, str(value))
        base.forget()

    change()
    yield change
    base.forget()
