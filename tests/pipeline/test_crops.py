"""Resizing and cropping against the outputs of the released code."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.crops import c3d_crop, selavi_crop, selavi_crop_uint8
from pipeline.windows import PADDING, Timeline, c3d_frames
from tests.golden.extractors import recipe
from tests.pipeline.test_windows import cases, golden

C3D_MEAN, C3D_STD = np.float32([0.43216, 0.394666, 0.37645]), np.float32([0.22803, 0.22145, 0.216989])


def sized(name: str) -> tuple[int, int, int]:
    count, height, width = map(int, name.rsplit("_", 1)[1].split("x"))
    return count, height, width


@pytest.mark.parametrize("name", cases("selavi_video_pre"))
def test_selavi(name):
    expected = golden("selavi_video_pre")
    frames = recipe.frames_uint8("set_a", name, *sized(name))
    fps = float(expected[f"{name}/fps"])
    chosen = np.clip(np.floor(np.arange(30) * (fps - 1) / 29).astype(int), 0, len(frames) - 1)
    made = selavi_crop(frames)[chosen]
    assert made.shape == (30, 112, 112, 3) and made.dtype == np.float32
    tensor = ((made / 255 - 0.45) / 0.225).transpose(3, 0, 1, 2)
    np.testing.assert_allclose(tensor[:, ::5, ::4, ::4], expected[f"{name}/subset_::5_::4_::4"], atol=1e-5)
    np.testing.assert_allclose(tensor[:, [0, 29]][:, :, [0, 111]], expected[f"{name}/corner_rows"], atol=1e-5)
    np.testing.assert_array_equal(selavi_crop_uint8(frames)[chosen], np.rint(made).astype(np.uint8))


@pytest.mark.parametrize("name", cases("c3d_pre"))
def test_c3d(name):
    expected = golden("c3d_pre")
    frames = recipe.frames_uint8("set_a", name, *sized(name))
    count = len(frames)
    timeline = Timeline(np.arange(count) / 25, count / 25, np.arange(count), 25.0, count, count)
    clips = c3d_frames(timeline, 100.0, frozenset({"c3d_windows"}))
    normalised = (c3d_crop(frames) / np.float32(255) - C3D_MEAN) / C3D_STD
    tensor = np.where((clips.frames != PADDING)[..., None, None, None], normalised[clips.frames], np.float32(0))
    tensor = tensor.transpose(0, 4, 1, 2, 3)
    np.testing.assert_allclose(tensor[:, :, ::3, ::6, ::6], expected[f"{name}/rgb_plain/subset_::3_::6_::6"], atol=1e-5)


@pytest.mark.parametrize("height, width", [(1, 1), (2, 500), (112, 112), (113, 112), (97, 401), (720, 1280)])
def test_any_size(height, width):
    frames = np.full((1, height, width, 3), 77, np.uint8)
    assert selavi_crop_uint8(frames).shape == c3d_crop(frames).shape == (1, 112, 112, 3)
    assert (selavi_crop_uint8(frames) == 77).all() and (c3d_crop(frames) == 77).all()


def test_strided_pictures_are_fine():
    """Rotated pictures arrive as views."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 150, 200, 3), dtype=np.uint8)
    view = picture.transpose(0, 2, 1, 3)[:, ::-1]
    for crop in (selavi_crop_uint8, c3d_crop):
        np.testing.assert_array_equal(crop(view), crop(np.ascontiguousarray(view)))
