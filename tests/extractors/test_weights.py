"""Weight files: found, fetched, verified, read without running anything, loaded strictly."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from extractors import checkpoints, generated, registry, weights
from extractors.networks.resnet9 import resnet9_trunk
from extractors.settings import WeightsSettings
from extractors.weight_files import Slot, WeightFile
from extractors.weights import Store
from pipeline.errors import SettingsError, WeightsError

TINY = WeightFile("tiny", "tiny.pth", "http://127.0.0.1:9/tiny.pth", "MIT", "nobody, 2020")
SLOT = Slot("tiny", (TINY,))


def tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.fixture
def slot(monkeypatch) -> Slot:
    line = dataclasses.replace(registry.EXTRACTORS["vggish"], weights=(SLOT,))
    monkeypatch.setitem(registry.EXTRACTORS, "tiny", line)
    return SLOT


def settings(folder: Path, *choose: str, fetch: bool = False) -> WeightsSettings:
    return WeightsSettings(source="published", folder=str(folder), choose=choose, fetch=fetch)


def published(folder: Path, **changes) -> dict:
    """Save a tiny network's state dict as tiny.pth, keys replaced by ``changes`` (None: left out); -> it."""
    state = {**tiny().state_dict(), **changes}
    state = {key: value for key, value in state.items() if value is not None}
    torch.save(state, folder / "tiny.pth")
    return state


def load(folder: Path, **options) -> nn.Module:
    return Store(settings(folder)).network("tiny", tiny, **options)


def test_a_network_gets_every_tensor(slot, tmp_path):
    state = published(tmp_path)
    store = Store(settings(tmp_path))
    network = store.network("tiny", tiny)
    assert not network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key])
    assert store.loaded["tiny"] == {
        "name": "tiny",
        "sha256": hashlib.sha256((tmp_path / "tiny.pth").read_bytes()).hexdigest(),
        "source": "published",
        "licence": "MIT",
    }


def test_missing_tensor(slot, tmp_path):
    published(tmp_path, **{"1.running_var": None})
    with pytest.raises(WeightsError, match=r"tiny.pth: tensor '1.running_var' is missing \(1 of 7 are\)"):
        load(tmp_path)


def test_unknown_tensor(slot, tmp_path):
    published(tmp_path, head=torch.zeros(1))
    with pytest.raises(WeightsError, match="tensor 'head' is unknown; expected the weights of this network"):
        load(tmp_path)
    load(tmp_path, ignored=("head",))


def test_tensor_of_another_shape(slot, tmp_path):
    published(tmp_path, **{"0.weight": torch.zeros(2, 4)})
    with pytest.raises(WeightsError, match=r"tensor '0.weight' has shape \(2, 4\), expected \(2, 3\)"):
        load(tmp_path)


def test_value_that_is_no_tensor(slot, tmp_path):
    published(tmp_path, **{"0.weight": "weight"})
    with pytest.raises(WeightsError, match="0.weight is str, expected a tensor"):
        load(tmp_path)


def test_prefix_and_other_spelling(slot, tmp_path):
    state = {f"module.net.{key.replace('0.', 'linear.')}": value for key, value in tiny().state_dict().items()}
    torch.save({"model": state, "epoch": 3}, tmp_path / "tiny.pth")
    load(tmp_path, prefix="net.", renamed={"net.linear.": "net.0."})
    with pytest.raises(WeightsError, match="tensor 'net.0.weight' is missing"):
        load(tmp_path, prefix="net.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file, expected a weight file written by torch.save: delete it and fetch it again"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "found a web page, expected a weight file"),
        (b"RIFF....AVI LIST", "not readable .*, expected a weight file written by torch.save"),
    ],
)
def test_file_that_is_something_else(slot, tmp_path, content, message):
    (tmp_path / "tiny.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load(tmp_path)


def test_file_that_is_cut_off(slot, tmp_path):
    published(tmp_path)
    content = (tmp_path / "tiny.pth").read_bytes()
    (tmp_path / "tiny.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="tiny.pth: found a file that is cut off"):
        load(tmp_path)


def test_file_that_holds_a_list(slot, tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "tiny.pth")
    with pytest.raises(WeightsError, match="found list, expected a state dict: names and tensors"):
        load(tmp_path)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("carries_more", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("place", ["model", "optimizer"])
def test_hostile_checkpoint_does_not_run(tmp_path, carries_more, zipped, place):
    mark = tmp_path / "ran"
    found = {"model": {}, "optimizer": {}, place: {"state": Hostile(mark)}}
    torch.save(found, tmp_path / "hostile.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"refused, it asks for posix\.system, which weights do not need"):
        checkpoints.read(tmp_path / "hostile.pth", carries_more)
    assert not mark.exists()


def test_hostile_plain_pickle_does_not_run(tmp_path):
    mark = tmp_path / "ran"
    (tmp_path / "hostile.pickle").write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(WeightsError, match="hostile.pickle: "):
        checkpoints.read(tmp_path / "hostile.pickle", carries_more=True)
    assert not mark.exists()


def test_hostile_arrays_do_not_run(tmp_path):
    mark = tmp_path / "ran"
    np.savez(tmp_path / "pca.npz", pca_means=np.array([Hostile(mark)], dtype=object))
    with pytest.raises(WeightsError, match="pca.npz: not readable .*expected plain arrays in .npz"):
        checkpoints.read_arrays(tmp_path / "pca.npz")
    assert not mark.exists()


@pytest.mark.parametrize("zipped", [False, True])
def test_training_checkpoint_with_all_that_surrounds_a_model(tmp_path, zipped):
    """As SeLaVi's training saves it: optimiser, cluster labels, distribution, argument list."""
    network = resnet9_trunk()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    model = {f"module.audio_network.base.{key}": value for key, value in network.state_dict().items()}
    model["module.mlp_a0.block_forward.8.bias"] = torch.zeros(309)
    model["module.video_network.base.stem.0.weight"] = torch.zeros(45, 3, 1, 7, 7)
    surroundings = {
        "epoch": np.int64(200),
        "dist": [np.random.default_rng(0).random(5), np.float32(0.5)],
        "optimizer": optimiser.state_dict(),
        "selflabels": torch.zeros(10, 2, dtype=torch.long),
        "amp": {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 3}},
        "args": argparse.Namespace(lr=0.1, name="selavi"),
    }
    path = tmp_path / "selavi_vgg_sound.pth"
    torch.save({"model": model, **surroundings}, path, _use_new_zipfile_serialization=zipped)
    extractor = registry.load("selavi_audio")(Store(settings(tmp_path)), frozenset(), "ucf")
    for key, value in network.state_dict().items():
        assert torch.equal(extractor.network.state_dict()[key], value)
    with pytest.raises(WeightsError, match="tensor 'video_network.base.stem.1.weight' is missing"):
        registry.load("selavi_video")(Store(settings(tmp_path)), frozenset(), "ucf")


def test_pca_parameters_in_both_formats(tmp_path):
    values = {"pca_eigen_vectors": np.eye(128), "pca_means": np.arange(128.0)}
    np.savez(tmp_path / "vggish_pca_params.npz", **values)  # type: ignore[arg-type]
    torch.save({key: torch.from_numpy(value).float() for key, value in values.items()}, tmp_path / "pca.pth")
    torch.save({**values, "pca_means": values["pca_means"][:, None]}, tmp_path / "numpy.pth")
    shapes = {"pca_eigen_vectors": (128, 128), "pca_means": (128,)}
    for choose in ((), (f"vggish_pca={tmp_path / 'pca.pth'}",), (f"vggish_pca={tmp_path / 'numpy.pth'}",)):
        found = Store(settings(tmp_path, *choose)).arrays("vggish_pca", shapes)
        for key, value in values.items():
            assert found[key].dtype == torch.float64
            np.testing.assert_array_equal(found[key], value)
    np.savez(tmp_path / "vggish_pca_params.npz", pca_means=values["pca_means"])
    with pytest.raises(WeightsError, match="tensor 'pca_eigen_vectors' is missing"):
        Store(settings(tmp_path)).arrays("vggish_pca", shapes)
    torch.save({**values, "pca_means": "none"}, tmp_path / "pca.pth")
    with pytest.raises(WeightsError, match="pca_means is str, expected an array"):
        Store(settings(tmp_path, f"vggish_pca={tmp_path / 'pca.pth'}")).arrays("vggish_pca", shapes)


def test_file_that_is_not_there(slot, tmp_path):
    with pytest.raises(WeightsError, match=r"weights 'tiny': .*tiny.pth is not there and \[weights\] fetch is false"):
        load(tmp_path)
    with pytest.raises(WeightsError, match=r"\[weights\] choose names '/nowhere/x.pth', which is no file; expected"):
        Store(settings(tmp_path, "tiny=/nowhere/x.pth")).network("tiny", tiny)


def test_server_that_is_not_there(slot, tmp_path):
    with pytest.raises(WeightsError, match=r"tiny.pth can't be fetched .*; put the file at .*tiny.pth yourself"):
        Store(settings(tmp_path, fetch=True)).network("tiny", tiny)


def test_identity_of_weights(slot, tmp_path):
    generated_, named = WeightsSettings(source="generated"), settings(tmp_path)
    assert weights.identity(slot, generated_) == f"generated-{generated.VERSION}"
    assert weights.identity(slot, named) == "tiny"
    assert weights.identity(registry.slot_named("vggish"), settings(tmp_path, "vggish=torchvggish")) == (
        "torchvggish:10086976"
    )
    (tmp_path / "own.pth").write_bytes(b"one")
    first = weights.identity(slot, settings(tmp_path, f"tiny={tmp_path / 'own.pth'}"))
    (tmp_path / "own.pth").write_bytes(b"another")
    assert weights.identity(slot, settings(tmp_path, f"tiny={tmp_path / 'own.pth'}")) != first


def test_which_weights_a_feature_set_needs():
    auto = WeightsSettings()
    assert registry.weights_identity("selavi", auto, dataset="ucf") == {"selavi": "selavi_vggsound"}
    assert set(registry.weights_identity("c3d_vggish", auto, frozenset(), "ucf")) == {"c3d", "vggish"}
    assert set(registry.weights_identity("c3d_vggish", auto, frozenset({"vggish_codes"}), "ucf")) == {
        "c3d", "vggish", "vggish_pca"
    }
    assert registry.weights_identity("selavi", auto, dataset="demo") == {"selavi": f"generated-{generated.VERSION}"}


def test_check_before_decoding(tmp_path):
    with pytest.raises(WeightsError, match="selavi_vgg_sound.pth is not there"):
        weights.check("selavi", settings(tmp_path), frozenset(), "ucf")
    with pytest.raises(SettingsError, match="weight slot 'selavy' is unknown; did you mean 'selavi'"):
        weights.check("selavi", settings(tmp_path, "selavy=x"), frozenset(), "ucf")
    assert weights.check("selavi", WeightsSettings(), frozenset(), "demo") == {"selavi": {"source": "generated"}}


def test_settings_are_checked():
    with pytest.raises(SettingsError, match=r"\[weights\] source: found 'random', expected one of auto, published"):
        WeightsSettings(source="random")
    with pytest.raises(SettingsError, match=r"\[weights\] folder: found an empty path"):
        WeightsSettings(folder="")
    with pytest.raises(SettingsError, match=r"\[weights\] choose: found 'selavi', expected slot=name or slot=path"):
        WeightsSettings(choose=("selavi",))
    with pytest.raises(SettingsError, match=r"\[weights\] source: found auto, expected settings resolved"):
        Store(WeightsSettings())


def test_every_registered_file_is_complete():
    files = [file for line in registry.EXTRACTORS.values() for each in line.weights for file in each.files]
    for file in files:
        assert file.url.startswith(("http://", "https://"))
        assert file.licence
        assert file.citation
        assert Path(file.file_name).name == file.file_name
        assert set(file.sha256) <= set("0123456789abcdef")


def test_generated_weights_are_always_the_same():
    frozen = hashlib.sha256(generated.tensor("c3d/conv1.weight", (4, 3, 2)).tobytes()).hexdigest()
    assert frozen == "97c6634248d22c0bd98e3e3c4f1e8a65e3035eb28be5a63193e30210f1908ca5"
    weight = generated.tensor("c3d/conv1.weight", (64, 3, 3, 3, 3)).reshape(64, -1)
    assert np.abs(weight.sum(axis=1)).max() < 1e-5
    assert np.square(weight).sum(axis=1).mean() == pytest.approx(2, rel=0.1)
    deeper = generated.tensor("c3d/conv2.weight", (64, 64, 3, 3, 3))
    assert np.square(deeper[:, :, 1, 1, 1]).mean() > 5 * np.square(deeper[:, :, 0, 0, 0]).mean()
    assert not np.array_equal(weight, generated.tensor("c3d/conv2.weight", (64, 3, 3, 3, 3)).reshape(64, -1))
    assert (generated.tensor("x.running_var", (3,)) == 1).all()
    assert (generated.tensor("x.bias", (3,)) == 0).all()
