"""The published resampler against the numbers of the released code's dependency."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.resampling import resample, resample_blocks
from tests.golden.extractors import recipe
from tests.pipeline.test_windows import golden


@pytest.mark.parametrize("name", ["w44k2", "w48k1"])
def test_published_samples(name):
    """44.1 kHz needs the accumulated time register (without it, errors of 1e-3); 48 kHz the truncated table step."""
    expected = golden("vggish_pre")
    rate, samples, channels = map(int, expected[f"{name}/rate_samples_channels"])
    wave = recipe.waveform_int16("set_a", name, rate, samples, channels)
    assert recipe.sha256_of(wave) == str(expected[f"{name}/input_sha256"])
    mono = wave / 32768.0 if wave.ndim == 1 else (wave / 32768.0).mean(axis=1)
    made = resample(mono, rate)
    assert len(made) == expected[f"{name}/resampy_0.2.2/resampled_len"]
    np.testing.assert_allclose(made[::37], expected[f"{name}/resampy_0.2.2/resampled_::37"], atol=1e-12)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44056, 48000, 96000])
def test_a_tone_stays_a_tone(rate):
    time = np.arange(2 * rate) / rate
    made = resample(np.sin(2 * np.pi * 1000 * time), rate)
    assert len(made) == int(2 * rate * (16000 / rate))
    expected = np.sin(2 * np.pi * 1000 * np.arange(len(made)) / 16000)
    # The published filter's truncated table step is audible in the numbers: up to 2 % at awkward ratios.
    np.testing.assert_allclose(made[2000:-2000], expected[2000:-2000], atol=0.02)


def test_same_rate_is_untouched_and_short_input_is_fine():
    x = np.linspace(-1, 1, 100)
    np.testing.assert_array_equal(resample(x, 16000), x)
    assert resample(np.zeros(0), 44100).shape == (0,)
    assert resample(np.ones(5), 44100).shape == (1,)


def test_blocks_carry_the_time_register_on(monkeypatch):
    x = np.random.default_rng(0).standard_normal(90_000)
    whole = resample(x, 44100)
    monkeypatch.setattr("pipeline.resampling.BLOCK", 1000)
    blocks = list(resample_blocks(x, 44100))
    assert len(blocks) == -(-len(whole) // 1000)
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-14)
