"""precision = fast: what it changes, and by how much."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from extractors import base, feeding, registry
from extractors.settings import ExtractionSettings, WeightsSettings
from extractors.weights import Store
from pipeline.errors import SettingsError
from tests.extractors.conftest import clips_of
from tests.extractors.test_conformance import FAST_TOLERANCE

# Largest difference from exact numbers of a CPU, by the largest feature.
EXACT_GPU_TOLERANCE = 2e-4


def features(name: str, device: str, precision: str, count: int = 2) -> np.ndarray:
    settings = ExtractionSettings(device=device, precision=precision)
    place = base.device_of(settings)
    extractor = base.build(name, Store(WeightsSettings(source="generated")), frozenset(), "demo")
    extractor = base.place(extractor, place, settings)
    clips = clips_of(name, count)
    with base.arithmetic(place, settings):
        rows = base.features(extractor, lambda start, stop: (clips[start:stop], None), count, 2, place, settings)
        return np.concatenate(list(rows))


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_cpu_gets_the_network_channels_last(precision):
    settings = ExtractionSettings(device="cpu", precision=precision)
    extractor = base.build("selavi_audio", Store(WeightsSettings(source="generated")), frozenset(), "demo")
    placed = base.place(extractor, torch.device("cpu"), settings)
    weight = placed.network.get_parameter("layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_precision_belongs_to_the_digest_and_the_device_does_not():
    settings = ExtractionSettings()
    assert settings.content() != replace(settings, precision="fast").content()
    assert settings.content() == replace(settings, device="cuda:1", prefetch_batches=5).content()


def test_a_gpu_without_bfloat16(monkeypatch):
    fast, device = ExtractionSettings(precision="fast"), torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(SettingsError, match=r"\[extraction\] precision: found fast, but Old does not .* exact"):
        base.check_precision(device, fast)
    base.check_precision(device, replace(fast, precision="exact"))
    base.check_precision(torch.device("cpu"), fast)


@pytest.fixture
def gpu() -> str:
    if not torch.cuda.is_available():
        if os.environ.get("GZSL_REQUIRE_GPU"):
            pytest.fail("GZSL_REQUIRE_GPU is set and there is no CUDA device")
        pytest.skip("no CUDA device")
    return "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(registry.EXTRACTORS))
def test_gpu_agrees_with_the_cpu(gpu, name):
    on_cpu = features(name, "cpu", "exact")
    assert apart(features(name, gpu, "exact"), on_cpu) <= EXACT_GPU_TOLERANCE
    assert apart(features(name, gpu, "fast"), on_cpu) <= FAST_TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(registry.EXTRACTORS))
def test_gpu_gives_equal_bits_twice(gpu, name):
    assert (features(name, gpu, "exact", 5) == features(name, gpu, "exact", 5)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(registry.EXTRACTORS))
def test_a_gpu_never_makes_the_host_wait(gpu, name):
    """After the first batch nothing is copied that blocks, so batches follow each other without a gap."""
    settings, device = ExtractionSettings(device=gpu), torch.device(gpu, 0)
    published = frozenset({"c3d_scale", "vggish_codes"})
    extractor = base.build(name, Store(WeightsSettings(source="generated")), published, "demo")
    extractor = base.place(extractor, device, settings)
    clips = torch.from_numpy(clips_of(name, 2)).to(device)
    valid = torch.full((2,), clips.shape[1], dtype=torch.int32, device=device)
    with base.arithmetic(device, settings):
        first = feeding.to_host(base.compute(extractor, clips, valid, settings))()
        torch.cuda.set_sync_debug_mode("error")
        try:
            again = feeding.to_host(base.compute(extractor, clips, valid, settings))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert (again() == first).all()


@pytest.mark.gpu
def test_goldens_on_a_gpu(gpu):
    from benchmarks import golden_extractors
    from tests.extractors.test_goldens import GOLDEN

    groups = golden_extractors.compare(GOLDEN, gpu)
    assert {group.name for group in groups if group.deviation > group.tolerance} == set()
