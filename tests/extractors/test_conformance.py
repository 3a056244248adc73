"""What holds for every extractor of the registry. A new line is covered without a change here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from extractors import base, registry
from extractors.settings import ExtractionSettings, WeightsSettings
from extractors.weights import Store
from pipeline import h5, schemas
from pipeline.errors import ArtefactError, SettingsError
from pipeline.windows import PLANS, FramePlan
from tests.extractors.conftest import clips_of

SETTINGS = ExtractionSettings(device="cpu")
CPU = torch.device("cpu")
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=list(registry.EXTRACTORS))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def extractor(name) -> base.Extractor:
    return base.place(base.build(name, Store(WeightsSettings(source="generated")), frozenset(), "demo"), CPU, SETTINGS)


@pytest.fixture(scope="module")
def clips(name) -> np.ndarray:
    return clips_of(name, 2)


def run(extractor: base.Extractor, clips: np.ndarray, batch: int) -> np.ndarray:
    """-> features of all clips through the loop."""
    def read(start: int, stop: int):
        return clips[start:stop], None

    with base.arithmetic(CPU, SETTINGS):
        rows = list(base.features(extractor, read, len(clips), batch, CPU, SETTINGS))
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


def test_equal_batches_give_equal_bits(extractor, clips, together):
    assert (run(extractor, clips[:2], 2) == together[:2]).all()


def test_batch_size_does_not_matter(extractor, clips, together):
    assert apart(together[:1], run(extractor, clips[:1], 1)) <= TOLERANCE


def test_neighbours_and_shard_do_not_matter(extractor, clips, together):
    # The second clip comes first here, before another neighbour.
    assert apart(together[1], run(extractor, clips[[1, 1]], 2)[0]) <= TOLERANCE


def test_no_clips(extractor, clips):
    assert len(run(extractor, clips[:0], 2)) == 0


def test_clips_that_are_too_short(name, shard):
    """A shard of other clips is refused before anything is loaded."""
    line = registry.entry(name)
    sets = [key for key, pair in registry.FEATURE_SETS.items() if name in (pair.video, pair.audio)]
    assert sets, f"no feature set has {name}"
    decoded = shard(sets[0], [1])
    longer = (line.clip[0] + 1, *line.clip[1:])
    with pytest.MonkeyPatch.context() as patch, h5.read(decoded, schemas.DECODED) as file:
        patch.setitem(registry.EXTRACTORS, name, replace(line, clip=longer))
        with pytest.raises(ArtefactError, match="the plan and the registry disagree"):
            base.check_clips(file, line.modality, name, line.plan)


def test_registry_imports_no_torch():
    code = "import sys, extractors.registry, extractors.settings, extractors.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names():
    with pytest.raises(SettingsError, match="feature set 'selav' is unknown; did you mean 'selavi'"):
        registry.feature_set_named("selav")
    with pytest.raises(SettingsError, match="extractor 'x' is unknown; known: selavi_video"):
        registry.entry("x")
