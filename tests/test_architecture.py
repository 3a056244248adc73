"""What the layout promises: names, places, and that the documents name files and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.deviations import DEVIATIONS

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "extractors", "model", "tasks")


def test_nothing_is_called_by_a_name_that_says_nothing():
    stems = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not stems & {"utils", "util", "helpers", "helper", "manager", "info", "misc", "common"}


def test_only_extractors_and_model_name_torch():
    for package in ("pipeline", "tasks"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"^\s*(import|from) torch", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda p: p.name)
def test_documents_name_files_that_exist(document):
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"
    for name in re.findall(r"`((?:pipeline|extractors|model|tasks|tests|benchmarks|docs)/[\w/]+\.\w+)", text):
        if not re.search(r"/(birds|colour)\.py$", name) and "example" not in name:
            assert (ROOT / name).exists(), f"{document.name} names {name}"


def test_the_ledger_has_a_row_and_a_test_for_every_deviation():
    text = (ROOT / "docs" / "reproduction.md").read_text()
    rows = {match[1]: match[0] for match in re.finditer(r"^\|[^|]*\| `(\w+)`.*$", text, re.MULTILINE)}
    for name, deviation in DEVIATIONS.items():
        assert name in rows, f"docs/reproduction.md has no row for {name}"
        tests = re.findall(r"`((?:tests/[\w/]+\.py)?)::(\w+)`", rows[name])
        assert tests, f"{name} names no test"
        file = ""
        for path, function in tests:
            file = path or file
            assert f"def {function}(" in (ROOT / file).read_text(), f"{name}: {file}::{function} does not exist"
        assert deviation.published and deviation.corrected
