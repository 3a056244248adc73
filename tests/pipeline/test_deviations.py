"""Protocols are presets over named deviations."""

from __future__ import annotations

import pytest

from extractors import registry
from pipeline.deviations import DEVIATIONS, canonical, relevant, resolve
from pipeline.errors import SettingsError


def test_presets_and_overrides():
    assert resolve("reference") == frozenset(DEVIATIONS)
    assert resolve("corrected") == frozenset()
    assert resolve("corrected", ["label_order=published"]) == {"label_order"}
    assert resolve("reference", ["label_order=corrected"]) == frozenset(DEVIATIONS) - {"label_order"}


@pytest.mark.parametrize("protocol, overrides, message", [
    ("fixed", [], "protocol 'fixed' is unknown; expected one of reference, corrected"),
    ("corrected", ["label_ordr=published"], "did you mean 'label_order'"),
    ("corrected", ["label_order=class"], "expected label_order=published or label_order=corrected"),
    ("corrected", ["label_order"], "expected label_order=published"),
])
def test_errors(protocol, overrides, message):
    with pytest.raises(SettingsError, match=message):
        resolve(protocol, overrides)


def test_every_deviation_belongs_to_a_stage():
    stages = {"decode", "extract", "benchmark", "train", "split"}
    assert {deviation.stage for deviation in DEVIATIONS.values()} == stages
    assert relevant(stages) == frozenset(DEVIATIONS)


SELAVI = ("selavi_video", "selavi_audio", "selavi_frames")


def test_only_rows_that_matter_to_an_artefact_are_relevant():
    assert "c3d_windows" not in relevant(["decode"], SELAVI)
    assert "c3d_windows" in relevant(["decode"], ("c3d", "c3d_frames", "vggish"))
    assert "cjme_attention" not in relevant(["train"], method="avca-audio")
    assert "apn_softmax" in relevant(["train"], SELAVI, "apn")
    assert relevant(["split"], SELAVI) == {"split_groups"}


def test_a_feature_set_of_ones_own_follows_what_its_parts_do(monkeypatch):
    monkeypatch.setitem(registry.FEATURE_SETS, "c3d_selavi", registry.FeatureSet("c3d", "selavi_audio"))
    everything = relevant(["decode", "extract"])
    assert registry.pretraining("c3d_selavi") == ("sports1m",)
    left_out = {"vggish_windows", "vggish_codes"}
    assert relevant(["decode", "extract"], registry.subjects("c3d_selavi")) == everything - left_out
    assert relevant(["decode", "extract"], registry.subjects("c3d_vggish")) == everything - {
        "selavi_windows", "selavi_short",
    }


def test_canonical_form_is_unique_and_means_the_same():
    names = relevant(["decode"], SELAVI)
    everything = resolve("reference")
    assert canonical(everything, names) == ("reference", "")
    assert canonical(frozenset(), names) == ("corrected", "")
    assert canonical(everything - {"label_order"}, names) == ("reference", "")
    assert canonical(frozenset({"selavi_short", "selavi_windows", "audio_start"}), names, ("corrected",)) == (
        "corrected", "audio_start=published,selavi_short=published,selavi_windows=published",
    )
    for published in (frozenset({"selavi_windows"}), everything - {"audio_start"}):
        protocol, overrides = canonical(published, names)
        assert resolve(protocol, overrides.split(",") if overrides else []) & names == published & names
