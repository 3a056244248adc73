"""What it costs that decoded shards hold whole numbers: SeLaVi's crops are rounded, C3D's always were."""

from __future__ import annotations

import itertools

import av
import numpy as np
import pytest
import torch

from extractors import base
from extractors.settings import ExtractionSettings, WeightsSettings
from extractors.weights import Store
from pipeline.crops import selavi_crop, selavi_crop_uint8

VIDEOS = ("mmaction2__test.avi", "video_features__v_GGSY1Qvo990.mp4", "decord__flipping_a_pancake.mkv")
CPU = torch.device("cpu")


def second_of(path) -> np.ndarray:
    """-> 30 full-size frames spread over the first second."""
    with av.open(str(path)) as container:
        rate = round(container.streams.video[0].average_rate or 25)
        frames = [frame.to_ndarray(format="rgb24") for frame in itertools.islice(container.decode(video=0), rate)]
    return np.stack([frames[index] for index in np.arange(30) * (len(frames) - 1) // 29])


@pytest.mark.slow
def test_features_of_real_videos_barely_move(reference_data):
    settings = ExtractionSettings(device="cpu")
    extractor = base.build("selavi_video", Store(WeightsSettings(source="generated")), frozenset(), "demo")
    extractor = base.place(extractor, CPU, settings)
    rows: dict[str, list[np.ndarray]] = {"float": [], "uint8": []}
    with base.arithmetic(CPU, settings):
        for name in VIDEOS:
            frames = second_of(reference_data / "data" / "videos" / name)
            for kind, crop in (("float", selavi_crop), ("uint8", selavi_crop_uint8)):
                clip = torch.from_numpy(crop(frames)[None])
                rows[kind].append(base.compute(extractor, clip, None, settings)[0].numpy())
    moved = [np.linalg.norm(a - b) for a, b in zip(rows["float"], rows["uint8"], strict=True)]
    pairs = [(i, k) for i in range(len(VIDEOS)) for k in range(i)]
    distance = np.mean([np.linalg.norm(rows["float"][i] - rows["float"][k]) for i, k in pairs])
    print(f"moved {np.array(moved) / distance}")
    assert max(moved) <= 0.02 * distance
