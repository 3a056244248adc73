from __future__ import annotations

import csv
import dataclasses

import pytest

from model import registry
from model.settings import Spec, TrainingSettings
from pipeline.errors import SettingsError

DATASETS = {"UCF-GZSL": "ucf", "ActivityNet-GZSL": "activitynet", "VGGSound-GZSL": "vggsound"}
FEATURES = {"main": "selavi", "cls": "c3d_vggish"}


def expected(row: dict[str, str]) -> dict[str, float]:
    """-> the fields of one released command line that its model reads."""
    common = {"epochs": int(row["epochs"]), "batches_per_epoch": int(row["n_batches"]),
              "batch_size": int(row["bs"]), "learning_rate": float(row["lr"])}
    model = row["model"]
    if model == "avca":
        return common | {
            "encoder_dropout": float(row["embedding_dropout"]), "projection_dropout": float(row["decoder_dropout"]),
            "decoder_dropout": float(row["additional_dropout"]), "momentum": float(row["momentum"]),
            "hidden_size": int(row["embeddings_hidden_size"]),
            "projection_hidden_size": int(row["decoder_hidden_size"]),
            "weight_decay": 1e-5, "normalise_inputs": False,
        }
    if model == "avgzslnet":
        return common | {
            "encoder_dropout": float(row["embedding_dropout"]), "projection_dropout": float(row["decoder_dropout"]),
            "hidden_size": int(row["embeddings_hidden_size"]),
            "projection_hidden_size": int(row["decoder_hidden_size"]),
            "weight_decay": 0.0,
        }
    if model == "cjme":
        return common | {"encoder_dropout": float(row["dropout_baselines"]), "weight_decay": 0.0,
                         "hidden_size": int(row["embeddings_hidden_size"])}
    if model == "f-vaegan":
        return common | {"batch_size": int(row["batch_size"]), "synthetic_per_class": int(row["syn_num"])}
    normalise = {"normalise_inputs": row["norm_inputs"] == "1", "weight_decay": 0.0}
    return common | normalise | ({} if model == "apn" else {"encoder_dropout": float(row["dropout_baselines"])})


def test_every_released_command_line(reference_data):
    with open(reference_data / "reference" / "hparams.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 90
    for row in rows:
        method = row["model"].replace("-", "")
        found = registry.hyper_parameters(method, DATASETS[row["dataset"]], FEATURES[row["features"]])
        for name, value in expected(row).items():
            assert getattr(found, name) == value, (method, row["dataset"], row["features"], name)


def test_fields_of_the_table_are_fields_of_a_specification():
    names = {field.name for field in dataclasses.fields(registry.HyperParameters)}
    assert names <= {field.name for field in dataclasses.fields(Spec)}


@pytest.mark.parametrize("method", registry.names())
@pytest.mark.parametrize("dataset", ["demo", "folder", "vggsound"])
def test_every_method_has_a_specification_everywhere(method, dataset):
    found = registry.specification(method, dataset, "c3d_vggish", 3)
    assert found.seed == 3 and found.epochs > 0
    assert (found.epochs < 50) == (dataset != "vggsound")
    assert registry.load(method)


def test_settings_replace_published_values_zero_included():
    changed = TrainingSettings(epochs=7, encoder_dropout=0.0, weight_decay=0.0, threads=2, momentum=0.5)
    found = registry.specification("avca", "ucf", "selavi", 0, changed)
    assert (found.epochs, found.encoder_dropout, found.weight_decay, found.threads, found.momentum) == (7, 0, 0, 2, 0.5)
    assert (found.projection_dropout, found.batch_size) == (0.3, 256)


def test_a_specification_says_whose_values_it_has():
    def origin(*combination, **settings):
        return registry.specification(*combination, 0, TrainingSettings(**settings)).origin

    assert origin("avca", "ucf", "c3d_vggish") == origin("avca", "ucf", "c3d_vggish", epochs=50) == "published"
    assert origin("fvaegan", "ucf", "selavi") == "published"
    assert origin("fvaegan", "ucf", "c3d_vggish") == "published for selavi"
    assert origin("ale", "demo", "colour_vggish") == "published for selavi on ucf, shortened"
    changed = origin("avca", "ucf", "selavi", epochs=3, weight_decay=0.0)
    assert changed == "published, but epochs 3, weight_decay 0.0"


def test_an_unknown_method_is_refused_with_the_nearest_name():
    with pytest.raises(SettingsError, match=r"method 'avac' is unknown; did you mean 'avca'\?"):
        registry.specification("avac", "ucf", "selavi", 0)
    with pytest.raises(SettingsError, match=r"method 'xyz' is unknown; known: avca, ale, "):
        registry.load("xyz")


def test_a_method_without_hyper_parameters_is_refused(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "two_lines", "two_lines_example:TwoLines")
    with pytest.raises(SettingsError, match=r"method 'two_lines' has no hyper-parameters; expected some in model/reg"):
        registry.specification("two_lines", "ucf", "selavi", 0)


@pytest.mark.parametrize("change, message", [
    (dict(device="gpu"), r"\[training\] device: found gpu, expected auto, cpu, cuda or cuda:<n>"),
    (dict(threads=0), r"\[training\] threads: found 0, expected 1 or more"),
    (dict(checkpoint_period_s=-1.0), r"\[training\] checkpoint_period_s: found -1.0, expected 0 or more seconds"),
    (dict(epochs=-1), r"\[training\] epochs: found -1, expected 0 \(published\) or more"),
    (dict(batch_size=1), r"\[training\] batch_size: found 1, expected 0 \(published\), 2 or more"),
    (dict(learning_rate=-0.1), r"\[training\] learning_rate: found -0.1, expected 0 \(published\) or more"),
    (dict(weight_decay=-2.0), r"\[training\] weight_decay: found -2.0, expected -1 \(published\), 0 or more"),
    (dict(decoder_dropout=1.0), r"\[training\] decoder_dropout: found 1.0, expected -1 \(published\), or 0 or more"),
    (dict(momentum=1.5), r"\[training\] momentum: found 1.5, expected 0 \(published\), or up to 1"),
])
def test_settings_out_of_range(change, message):
    with pytest.raises(SettingsError, match=message):
        TrainingSettings(**change)


def test_a_negative_seed_is_refused():
    with pytest.raises(SettingsError, match=r"seed: found -1, expected 0 or more"):
        registry.specification("avca", "ucf", "selavi", -1)
