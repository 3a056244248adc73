"""Golden outputs of the published code: every stage before the networks, the networks, and both together."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import golden_extractors, parity

GOLDEN = Path(__file__).parent.parent / "golden" / "extractors"
REASONS = {
    "a setting that the other arrays were made with",
    "a fact about a torchvision release, not an output",
    golden_extractors.inputs.OTHER_RELEASE,
}


@pytest.fixture
def only_extractors(monkeypatch):
    monkeypatch.setattr(parity, "KINDS", ("golden_extractors",))


def some_of_set_a(folder: Path, *names: str) -> Path:
    """Copy some golden files and the recipe."""
    (folder / "set_a").mkdir()
    shutil.copy(GOLDEN / "recipe.py", folder)
    for name in names:
        shutil.copy(GOLDEN / "set_a" / f"{name}.npz", folder / "set_a")
    return folder


@pytest.mark.slow
def test_everything_is_within_the_tolerance():
    groups = golden_extractors.compare(GOLDEN)
    assert {group.name for group in groups if group.deviation > group.tolerance} == set()
    assert {reason for group in groups for _, reason in group.ignored} == REASONS
    assert {group.name.split()[1].rstrip(":") for group in groups if group.compared} == {
        path.stem for path in GOLDEN.glob("set_a/*.npz")
    }
    # 222 of 253 arrays, and the 18 tensors of VGGish once more in their other spelling.
    assert sum(group.compared for group in groups) == sum(
        len(np.load(path).files) for path in GOLDEN.glob("set_a/*.npz")
    ) - sum(len(group.ignored) for group in groups) + 18


def test_our_copy_is_the_reference(reference_data):
    reference = reference_data / "goldens" / "extractors"
    for path in (GOLDEN / "recipe.py", *GOLDEN.glob("set_*/*.npz")):
        assert path.read_bytes() == (reference / path.relative_to(GOLDEN)).read_bytes()


def test_parity_of_a_folder(tmp_path, capsys, only_extractors):
    assert parity.main([str(some_of_set_a(tmp_path, "selavi_windows", "vggish_pre"))]) == 0
    out = capsys.readouterr().out
    assert "ok   set_a selavi_windows: exact" in out
    assert "ignored: set_a vggish_pre edge/n_samples_16k: a setting that the other arrays were made with" in out
    assert "ignored: ok" in out


def test_parity_tells_a_wrong_number(tmp_path, capsys, only_extractors):
    path = some_of_set_a(tmp_path, "vggish_pre") / "set_a" / "vggish_pre.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["w16k/log_mel"] = arrays["w16k/log_mel"] + 2e-4
    np.savez(path, **arrays)
    assert parity.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "FAIL set_a vggish_pre: values" in out
    assert "deviation 2.00e-04, tolerance 1.00e-04" in out


def test_parity_lists_an_array_that_it_does_not_know(tmp_path, capsys, only_extractors):
    path = some_of_set_a(tmp_path, "selavi_windows") / "set_a" / "selavi_windows.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, extra=np.zeros(3), **arrays)
    assert parity.main([str(tmp_path)]) == 0
    assert "ignored: set_a selavi_windows extra: no rule for this array" in capsys.readouterr().out


@pytest.mark.parametrize(("make", "message"), [(True, "nothing to compare"), (False, "no such folder")])
def test_parity_of_nothing_fails(tmp_path, capsys, only_extractors, make, message):
    folder = tmp_path / "goldens"
    if make:
        folder.mkdir()
    assert parity.main([str(folder)]) == 1
    assert message in capsys.readouterr().out


def test_parity_fails_where_all_is_ignored(tmp_path, capsys, only_extractors):
    folder = some_of_set_a(tmp_path)
    np.savez(folder / "set_a" / "selavi_windows.npz", extra=np.zeros(3))
    assert parity.main([str(folder)]) == 1
    assert "0 arrays compared, 1 ignored: FAIL" in capsys.readouterr().out


def test_each_kind_of_golden_file_has_a_module(monkeypatch, tmp_path):
    for kind in parity.KINDS:
        monkeypatch.setitem(sys.modules, f"benchmarks.{kind}", SimpleNamespace(applies=lambda directory: False))
    monkeypatch.setattr("importlib.import_module", sys.modules.__getitem__)
    assert parity.compare(tmp_path, "cpu") == []
