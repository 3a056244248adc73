"""What holds for every extractor of the registry. A new line is covered without a change here."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from extractors import base, registry
from extractors.settings import ExtractionSettings, WeightsSettings
from extractors.weights import Store
from pipeline.errors import SettingsError
from pipeline.windows import PLANS, FramePlan
from tests.extractors.conftest import clips_of

SETTINGS = ExtractionSettings(device="cpu")
FAST = ExtractionSettings(device="cpu", precision="fast")
CPU = torch.device("cpu")
TOLERANCE = 1e-5
# The networks compute in bfloat16, which keeps 8 bits: 1 % was seen.
FAST_TOLERANCE = 2e-2


@pytest.fixture(scope="module", params=list(registry.EXTRACTORS))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def extractor(name) -> base.Extractor:
    return base.place(base.build(name, Store(WeightsSettings(source="generated")), frozenset(), "demo"), CPU, SETTINGS)


@pytest.fixture(scope="module")
def clips(name) -> np.ndarray:
    return clips_of(name, 2)


def run(
    extractor: base.Extractor, clips: np.ndarray, batch: int, settings: ExtractionSettings = SETTINGS
) -> np.ndarray:
    """-> features of all clips through the loop."""
    def read(start: int, stop: int):
        return clips[start:stop], None

    with base.arithmetic(CPU, settings):
        rows = list(base.features(extractor, read, len(clips), batch, CPU, settings))
    return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)


@pytest.fixture(scope="module")
def together(extractor, clips) -> np.ndarray:
    return run(extractor, clips, 2)


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(a).max())


def test_line_agrees_with_its_plans(name):
    line = registry.entry(name)
    names = [line.plan, *([line.other_plan.plan] if line.other_plan else [])]
    for plan in (PLANS[each] for each in names):
        assert line.modality == ("video" if isinstance(plan, FramePlan) else "audio")
        assert line.clip == ((plan.frames, 112, 112, 3) if isinstance(plan, FramePlan) else (plan.samples,))


def test_shape_type_and_range(name, together):
    assert together.shape == (2, registry.entry(name).width)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    # An answer that is the same for every input would pass all that follows.
    assert apart(together[0], together[1]) > 1e-3


@pytest.fixture(scope="module")
def alone(extractor, clips) -> np.ndarray:
    return run(extractor, clips, 1)


def test_equal_batches_give_equal_bits(extractor, clips, alone):
    assert (run(extractor, clips[:1], 1) == alone[:1]).all()


def test_batch_size_place_and_neighbours_do_not_matter(together, alone):
    assert max(apart(*rows) for rows in zip(together, alone, strict=True)) <= TOLERANCE


def test_fast_is_near_exact_and_not_the_same(extractor, clips, alone):
    fast = run(extractor, clips[:1], 1, FAST)
    assert 1e-6 < apart(alone[:1], fast) <= FAST_TOLERANCE
    assert fast.dtype == np.float32


def test_no_clips(extractor, clips):
    assert len(run(extractor, clips[:0], 2)) == 0


def test_registry_imports_no_torch():
    code = "import sys, extractors.registry, extractors.settings, extractors.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names():
    with pytest.raises(SettingsError, match="feature set 'selav' is unknown; did you mean 'selavi'"):
        registry.feature_set_named("selav")
    with pytest.raises(SettingsError, match="extractor 'x' is unknown; known: selavi_video"):
        registry.entry("x")
