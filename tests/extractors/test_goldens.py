"""Golden outputs of the published code: every stage before the networks, the networks, and both together."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import golden_extractors, parity

GOLDEN = Path(__file__).parent.parent / "golden" / "extractors"
REASONS = {
    "a setting that the other arrays were made with",
    "a fact about a torchvision release, not an output",
    golden_extractors.inputs.OTHER_RELEASE,
    "the classifier, which no feature needs",
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
    compared = {group.name.partition(":")[0]: 0 for group in groups}
    for group in groups:
        compared[group.name.partition(":")[0]] += group.compared
    assert all(compared.values())
    assert set(compared) == {"checkpoint_manifest", *(f"set_a {path.stem}" for path in GOLDEN.glob("set_a/*.npz"))}
    # 222 of 253 arrays, 18 tensors of VGGish once more in their other spelling, and the loaded tensors.
    listed = json.loads((GOLDEN / "checkpoint_manifest.json").read_text())
    arrays = sum(len(np.load(path).files) for path in GOLDEN.glob("set_a/*.npz"))
    arrays += sum(len(tensors) for tensors in listed.values() if isinstance(tensors, dict))
    assert sum(compared.values()) == arrays - sum(len(group.ignored) for group in groups) + 18


def test_our_copy_is_the_reference(reference_data):
    reference = reference_data / "goldens" / "extractors"
    for path in (GOLDEN / "recipe.py", GOLDEN / "checkpoint_manifest.json", *GOLDEN.glob("set_*/*.npz")):
        assert path.read_bytes() == (reference / path.relative_to(GOLDEN)).read_bytes()


def test_parity_of_a_folder(tmp_path, capsys, only_extractors):
    assert parity.main([str(some_of_set_a(tmp_path, "selavi_windows", "vggish_pre"))]) == 0
    out = capsys.readouterr().out
    assert "ok   set_a selavi_windows: exact" in out
    assert "ignored: set_a vggish_pre edge/n_samples_16k: a setting that the other arrays were made with" in out
    assert "ignored: ok" in out


def changed(folder: Path, name: str, drop: tuple[str, ...] = (), **arrays: np.ndarray) -> None:
    """A golden file without some arrays and with others."""
    path = some_of_set_a(folder, name) / "set_a" / f"{name}.npz"
    with np.load(path) as file:
        kept = {key: file[key] for key in file.files if key not in drop}
    np.savez(path, **{**kept, **arrays})  # type: ignore[arg-type]


def test_parity_tells_a_wrong_number(tmp_path, capsys, only_extractors):
    with np.load(GOLDEN / "set_a" / "selavi_audio_pre.npz") as file:
        wrong = file["spec1"] + np.float32(2e-4)
    changed(tmp_path, "selavi_audio_pre", spec1=wrong)
    assert parity.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "FAIL set_a selavi_audio_pre: values" in out
    assert "deviation 2.00e-04, tolerance 1.00e-04" in out


@pytest.mark.parametrize(("name", "drop", "extra", "message"), [
    ("selavi_windows", ("L250_fps25_tick512/start_frame",), (),
     "L250_fps25_tick512/start_frame: missing"),
    ("selavi_windows", (), ("extra",), "extra: nothing was compared with this array"),
    ("selavi_audio_pre", ("wave/n_samples",), (),
     "wave/n_samples: missing, and others can't be compared without it"),
    ("selavi_audio_pre", ("spec0/subset_::4_::3",), (), "spec0: missing, and so is every subset of it"),
    ("vggish_pre", (), ("w44k2/resampy_0.2.2/other",),
     "w44k2/resampy_0.2.2/other: nothing was compared with this array"),
    ("vggish_pre", ("edge/n_examples",), (), "edge/n_examples: missing"),
])
def test_parity_fails_for_arrays_that_are_missing_or_unknown(
    tmp_path, capsys, only_extractors, name, drop, extra, message
):
    changed(tmp_path, name, drop, **{key: np.zeros(3) for key in extra})
    assert parity.main([str(tmp_path)]) == 1
    assert f"FAIL set_a {name} {message}" in capsys.readouterr().out


def test_a_set_may_hold_other_cases_and_other_parts_of_arrays(tmp_path, capsys, only_extractors):
    with np.load(GOLDEN / "set_a" / "vggish_pre.npz") as file:
        whole = file["w16k/log_mel"]
    changed(tmp_path, "vggish_pre", ("edge/n_examples", "edge/n_samples_16k", "silence/value", "w16k/log_mel"),
            **{"w16k/log_mel_subset_:_::4_::2": whole[:, ::4, ::2]})
    assert parity.main([str(tmp_path)]) == 0


def test_a_manifest_that_lists_other_tensors(tmp_path):
    one = torch.ones(1)
    tensors = {"conv.weight": torch.ones(2, 3), "extra.weight": one, "norm.num_batches_tracked": one}

    class Networks:
        def loaded(self, name: str):
            state = tensors if name == "c3d" else {}
            return SimpleNamespace(network=SimpleNamespace(state_dict=lambda: state))

        def __getitem__(self, name: str):
            return SimpleNamespace(get_buffer=lambda key: torch.zeros(1))

    facts = {"pca_eigen_vectors": [[1], [0.0], 0.0], "pca_means": [[1], [0.0], 0.0]}
    listed = {"conv.weight": [[2, 3], [1.0], 6.0], "fc8.weight": [[1], [0.0], 0.0], "fc9.weight": [[1], [0.0], 0.0]}
    path = tmp_path / "checkpoint_manifest.json"
    path.write_text(json.dumps({"c3d": listed, "pca": facts}))
    group, *failures = golden_extractors.compare_manifest(path, Networks())  # type: ignore[arg-type]
    assert (group.compared, group.deviation) == (3, 0.0)
    assert [key for key, _ in group.ignored] == ["fc8.weight"]
    assert [each.name.partition(": ")[2] for each in failures] == [
        "c3d, extra.weight is not listed", "c3d, fc9.weight is listed, but our loader gives no such tensor",
    ]


@pytest.mark.parametrize(("make", "message"), [(True, "nothing to compare"), (False, "no such folder")])
def test_parity_of_nothing_fails(tmp_path, capsys, only_extractors, make, message):
    folder = tmp_path / "goldens"
    if make:
        folder.mkdir()
    assert parity.main([str(folder)]) == 1
    assert message in capsys.readouterr().out


def test_parity_fails_for_files_that_hold_nothing_or_are_unknown(tmp_path, capsys, only_extractors):
    folder = some_of_set_a(tmp_path, "selavi_windows")
    np.savez(folder / "set_a" / "selavi_audio_pre.npz")
    (folder / "set_a" / "selavi_video.npz").touch()
    (folder / "set_b").mkdir()
    assert parity.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert "ok   set_a selavi_windows: exact" in out
    assert "FAIL set_a selavi_audio_pre: nothing was compared" in out
    assert "FAIL set_a/selavi_video.npz: a file of no known kind" in out
    assert "FAIL set_b: holds nothing that can be compared" in out


def test_parity_fails_where_a_file_that_others_need_is_missing(tmp_path, capsys):
    (tmp_path / "set_a").mkdir()
    for name in ("recipe.py", "set_a/ale.npz"):
        shutil.copy(GOLDEN.parent / "trajectory" / name, tmp_path / name)
    assert parity.main([str(tmp_path)]) == 1
    assert re.search("FAIL golden_model: stopped where .*table.npz is missing", capsys.readouterr().out)


def test_each_kind_of_golden_file_has_a_module():
    golden = GOLDEN.parent
    for kind in parity.KINDS:
        module = importlib.import_module(f"benchmarks.{kind}")
        found = {path.parent.parent.name for name in ("extractors", "model", "trajectory")
                 for path in module.files(golden / name)}
        assert found == ({"extractors"} if kind == "golden_extractors" else {"model", "trajectory"})
        assert module.applies(golden / next(iter(found)))
