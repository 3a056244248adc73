"""The extractors' rows of the protocols: each one alone changes the features, and as stated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from extractors import audio, base, frames, registry
from extractors.c3d import C3D
from extractors.settings import ExtractionSettings
from extractors.vggish import VGGish
from tests.extractors.conftest import clips_of


class Flat(nn.Module):
    """Input -> the same numbers as rows."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Few(nn.Module):
    """Spectrograms -> 128 numbers a row, >= 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x.flatten(1)[:, :128])


class FakeStore:
    """Networks that hand their input on, and a PCA that keeps it."""

    def network(self, slot, build, **options):
        return Few() if slot == "vggish" else Flat()

    def arrays(self, slot, shapes):
        return {"pca_eigen_vectors": torch.eye(128, dtype=torch.float64), "pca_means": torch.zeros(128)}


def c3d(clips: np.ndarray, *published: str, valid: int = 16) -> np.ndarray:
    extractor = C3D(FakeStore(), frozenset(published), "ucf")  # type: ignore[arg-type]
    rows = extractor(torch.from_numpy(clips), torch.tensor([valid])).numpy()
    return rows.reshape(3, 16, 112, 112)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    clips = np.zeros((1, 16, 112, 112, 3), np.uint8)
    clips[..., 0], clips[..., 1], clips[..., 2] = 200, 100, 50
    return clips


def test_c3d_scale(picture):
    assert c3d(picture)[:, 0, 0, 0].tolist() == [200, 100, 50]
    scaled = c3d(picture, "c3d_scale")[:, 0, 0, 0]
    expected = (np.array([200, 100, 50]) / 255 - frames.KINETICS_MEAN) / frames.KINETICS_DEVIATION
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)


def test_c3d_colour(picture):
    assert c3d(picture, "c3d_colour")[:, 0, 0, 0].tolist() == [50, 100, 200]


def test_c3d_colour_is_negated_while_decoding():
    published = frozenset({"c3d_colour"})
    for dataset, plan in (
        ("ucf", "c3d_frames_negative"), ("vggsound", "c3d_frames_negative"), ("activitynet", "c3d_frames")
    ):
        assert registry.plans("c3d_vggish", published, dataset)["video"] == plan
        assert registry.plans("c3d_vggish", frozenset(), dataset)["video"] == "c3d_frames"


def test_the_negative_is_taken_before_the_resize():
    from pipeline.windows import PLANS

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 3, (1, 240, 320, 3), dtype=np.uint8)  # dark: many zeros, which stay zero
    after = (256 - PLANS["c3d_frames"].crop(pictures).astype(int)) % 256  # type: ignore[union-attr]
    before = PLANS["c3d_frames_negative"].crop(pictures).astype(int)  # type: ignore[union-attr]
    assert np.abs(after - before).mean() > 10


@pytest.mark.parametrize("published", [(), ("c3d_scale",), ("c3d_scale", "c3d_colour")])
def test_c3d_padding_is_zero_after_scaling(picture, published):
    padded = c3d(picture, *published, valid=5)
    assert (padded[:, 5:] == 0).all()
    assert (padded[:, :5] == c3d(picture, *published)[:, :5]).all()


def vggish(*published: str) -> np.ndarray:
    extractor = VGGish(FakeStore(), frozenset(published), "ucf")  # type: ignore[arg-type]
    samples = 0.3 * np.random.default_rng(0).standard_normal((2, 15600)).astype(np.float32)
    return extractor(torch.from_numpy(samples)).numpy()


def test_vggish_codes():
    embedding, codes = vggish(), vggish("vggish_codes")
    assert codes.dtype == np.float32
    assert (codes == np.floor((np.clip(embedding, -2, 2) + 2) * 63.75)).all()
    assert not (codes == embedding).all()


@pytest.mark.parametrize(("kind", "published"), [(C3D, {"c3d_scale", "c3d_colour"}), (VGGish, {"vggish_codes"})])
def test_a_row_of_published_features_depends_on_its_clip_alone(kind, published):
    """What tests/extractors/test_conformance.py shows of the corrected ones, around networks that hand on."""
    settings, cpu = ExtractionSettings(device="cpu"), torch.device("cpu")
    extractor = base.place(kind(FakeStore(), frozenset(published), "ucf"), cpu, settings)
    clips = clips_of("c3d" if kind is C3D else "vggish", 3)
    valid = np.array([16, 3, 16], np.int32)

    def rows(order: list[int], size: int) -> np.ndarray:
        def read(start: int, stop: int):
            return clips[order][start:stop], valid[order][start:stop]

        with base.arithmetic(cpu, settings):
            return np.concatenate(list(base.features(extractor, read, len(order), size, cpu, settings)))

    alone = rows([0, 1, 2], 1)
    assert not (alone[0] == alone[2]).all()
    assert (rows([0, 1, 2], 2) == alone).all()
    assert (rows([2, 1, 0], 3)[::-1] == alone).all()


def test_codes_are_cut_not_rounded():
    embedding = torch.full((1, 128), 0.01)
    codes = audio.vggish_codes(embedding, torch.eye(128), torch.zeros(128))
    assert codes.unique().tolist() == [128.0]  # 128.1375
    assert audio.vggish_codes(embedding * 0 + 0.0134, torch.eye(128), torch.zeros(128)).unique().tolist() == [128.0]
    assert audio.vggish_codes(embedding * 900, torch.eye(128), torch.zeros(128)).unique().tolist() == [255.0]
    assert audio.vggish_codes(embedding * -900, torch.eye(128), torch.zeros(128)).unique().tolist() == [0.0]


def test_empty_bands_are_exactly_the_floor():
    filters = audio.selavi_filters(44100)
    empty = (filters == 0).all(dim=0)
    assert int(empty.sum()) == 54
    noise = torch.from_numpy(3000 * np.random.default_rng(0).standard_normal((1, 44100)))
    bands = audio.selavi_spectrogram(noise)[0, 0]
    floor = np.float32((np.float32(np.log(np.finfo(np.float64).eps)) - np.float32(1.93)) / np.float32(17.89))
    assert (bands[empty] == float(floor)).all()
    assert (bands[~empty] > float(floor)).all()


def test_sound_too_short_for_a_frame():
    assert audio.vggish_log_mel(torch.zeros(1, 399)).shape == (1, 0, 64)
    assert audio.vggish_examples(audio.vggish_log_mel(torch.zeros(1, 15599))).shape == (1, 0, 96, 64)
    assert audio.selavi_spectrogram(torch.zeros(1, 100)).shape == (1, 1, 257, 1)
