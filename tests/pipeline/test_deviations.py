"""Protocols are presets over named deviations."""

from __future__ import annotations

import pytest

from pipeline.deviations import DEVIATIONS, of_stage, resolve
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
    everything = frozenset(DEVIATIONS)
    assert sorted(name for stage in stages for name in of_stage(everything, stage)) == sorted(DEVIATIONS)
