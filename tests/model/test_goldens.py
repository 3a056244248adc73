"""The methods against golden numbers of the released code: single steps, evaluation, 100-step trajectories."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import golden_model

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = [path for kind in ("model", "trajectory") for path in golden_model.files(GOLDEN / kind)
         if path.name != "fvaegan.npz"]  # test_fvaegan.py has that


def folder_with(path: Path, target: Path) -> Path:
    """-> a golden folder of one file (and the batches that a trajectory needs)."""
    (target / path.parent.name).mkdir(parents=True)
    shutil.copy(path.parents[1] / "recipe.py", target)
    for name in {path.name, "table.npz"}:
        if (path.parent / name).exists():
            shutil.copy(path.parent / name, target / path.parent.name)
    return target


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_agrees(path, tmp_path):
    groups = golden_model.compare(folder_with(path, tmp_path))
    assert sum(group.compared for group in groups) > 10
    for group in groups:
        assert group.deviation <= group.tolerance, group
        for key, reason in group.ignored:
            assert "exact gradient is 0" in reason, (key, reason)


def test_every_method_has_golden_numbers():
    stems = {path.stem for path in FILES}
    assert {f"{method}_f64" for method in golden_model.METHODS} <= stems
    assert set(golden_model.TRAJECTORIES) <= stems


@pytest.mark.parametrize("key", ["train/loss/total", "steps/params_3/bilinear.weight/sub", "eval/projected"])
def test_a_wrong_number_is_found(key, tmp_path):
    folder = folder_with(GOLDEN / "model" / "set_a" / "sje_f64.npz", tmp_path)
    path = folder / "set_a" / "sje_f64.npz"
    with np.load(path) as file:
        arrays = {name: file[name].copy() for name in file.files}
    arrays[key].ravel()[...] *= 1 + 1e-6
    arrays["something/else"] = np.zeros(3)
    np.savez(path, **arrays)
    groups = golden_model.compare(folder)
    failed = [group.name for group in groups if group.deviation > group.tolerance]
    assert len(failed) > 1 and "set_a sje_f64 something/else: nothing was compared with this array" in failed


def test_a_folder_of_something_else_does_not_apply(tmp_path):
    assert not golden_model.applies(tmp_path)
    assert golden_model.applies(GOLDEN / "model") and golden_model.applies(GOLDEN / "trajectory")
