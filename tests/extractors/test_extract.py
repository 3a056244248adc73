"""The file-level function: from a decoded shard to clip features."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from extractors import base, feeding, registry
from extractors.settings import ExtractionSettings, WeightsSettings
from pipeline import h5, schemas
from pipeline.errors import ArtefactError, PipelineError, SettingsError

GENERATED = WeightsSettings(source="generated")
SETTINGS = ExtractionSettings(device="cpu")


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """The networks of c3d_vggish replaced by ones that cost nothing."""
    for name, kind in (("c3d", "Brightness"), ("vggish", "Loudness")):
        line = replace(registry.EXTRACTORS[name], width=2, target=f"tests.extractors.plain:{kind}")
        monkeypatch.setitem(registry.EXTRACTORS, name, line)


def run(path, output, feature_set="c3d_vggish", settings=SETTINGS, published=frozenset(), dataset="demo"):
    made = h5.Output(output, schemas.CLIP_FEATURES)
    base.extract(path, feature_set, GENERATED, settings, published, dataset, made)
    return h5.facts(output)


def test_features_of_a_shard(shard, tmp_path):
    decoded = shard("c3d_vggish", [2, 0, 1])
    facts = run(decoded, tmp_path / "features.h5")
    with h5.read(tmp_path / "features.h5", schemas.CLIP_FEATURES) as file, h5.read(decoded, schemas.DECODED) as source:
        assert file["video/features"].shape == (3, 2)
        assert file["audio/features"].shape == (3, 2)
        for column in ("id", "status", "reason", "detail", "video/offsets", "video/start_s", "audio/stop_s"):
            assert (file[column] == source[column]).all()
        assert file["reason"].tolist() == ["", "too_short", ""]
        assert file["video/offsets"].tolist() == [0, 2, 2, 3]
    assert set(facts["weights"]) == {"c3d", "vggish"}
    assert facts["weights"]["c3d"]["source"] == "generated"
    assert len(facts["weights"]["c3d"]["sha256"]) == 64
    assert facts["clips"] == {"video": 3, "audio": 3}
    assert facts["device"] == "cpu"
    assert (facts["videos"], facts["failures"]) == (3, {"too_short": 1})


def test_equal_shards_give_equal_bits(shard, tmp_path):
    decoded = shard("c3d_vggish", [1, 1])
    first = run(decoded, tmp_path / "a.h5")
    again = run(decoded, tmp_path / "b.h5", settings=replace(SETTINGS, prefetch_batches=1))
    assert first["content_sha256"] == again["content_sha256"]


def test_rows_belong_to_their_clips(shard, tmp_path):
    """A row is that of its own clip, however the clips are cut into batches."""
    decoded = shard("c3d_vggish", [3, 0, 4])
    run(decoded, tmp_path / "one.h5", settings=replace(SETTINGS, video_batch_clips=1, audio_batch_clips=1))
    run(decoded, tmp_path / "four.h5", settings=replace(SETTINGS, video_batch_clips=4, audio_batch_clips=5))
    with h5.read(decoded, schemas.DECODED) as source:
        means = source["video/frames"].mean(axis=(1, 2, 3, 4))
    rows = []
    for name in ("one.h5", "four.h5"):
        with h5.read(tmp_path / name, schemas.CLIP_FEATURES) as file:
            rows.append((file["video/features"], file["audio/features"]))
    for one, four in zip(*rows, strict=True):
        np.testing.assert_allclose(one, four, rtol=1e-5)
    assert (np.argsort(np.abs(rows[0][0][:, 0])) == np.argsort(means)).all()


def test_shard_without_any_clip(shard, tmp_path):
    run(shard("c3d_vggish", [0, 0]), tmp_path / "features.h5")
    with h5.read(tmp_path / "features.h5", schemas.CLIP_FEATURES) as file:
        assert file["video/features"].shape == (0, 2)
        assert file["audio/features"].shape == (0, 2)
        assert file["id"].tolist() == ["video-0", "video-1"]


def test_shard_of_another_feature_set(shard, tmp_path):
    with pytest.raises(ArtefactError, match="clips of plan 'c3d_frames', expected 'selavi_frames' for selavi_v"):
        run(shard("c3d_vggish", [1]), tmp_path / "features.h5", feature_set="selavi")
    with pytest.raises(ArtefactError, match="clips of plan 'c3d_frames', expected 'c3d_frames_negative' for c3d; the"):
        run(shard("c3d_vggish", [1]), tmp_path / "features.h5", published=frozenset({"c3d_colour"}), dataset="ucf")
    assert not (tmp_path / "features.h5").exists()


def test_plan_and_registry_that_disagree(shard, tmp_path, monkeypatch):
    decoded = shard("c3d_vggish", [1])
    line = replace(registry.EXTRACTORS["vggish"], clip=(16000,))
    monkeypatch.setitem(registry.EXTRACTORS, "vggish", line)
    with pytest.raises(ArtefactError, match=r"have shape \(15600,\), expected \(16000,\) for vggish; the plan"):
        run(decoded, tmp_path / "features.h5")


def test_features_that_are_not_finite(shard, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "compute", lambda extractor, clips, *_: torch.full((len(clips), 2), float("nan")))
    with pytest.raises(PipelineError, match="c3d gave features that are not finite for clips 0 to 0"):
        run(shard("c3d_vggish", [2]), tmp_path / "features.h5")


def test_a_gpu_that_is_full(shard, tmp_path, monkeypatch):
    def compute(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(base, "compute", compute)
    with pytest.raises(SettingsError, match=r"\[extraction\] video_batch_clips: .* too little .* for 3 clips of c3d"):
        run(shard("c3d_vggish", [2]), tmp_path / "features.h5", settings=replace(SETTINGS, video_batch_clips=3))


def test_device_that_is_not_there():
    with pytest.raises(SettingsError, match="found cuda:99, but this machine has"):
        base.device_of(replace(SETTINGS, device="cuda:99"))


def test_arithmetic_leaves_torch_as_it_was():
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with base.arithmetic(torch.device("cpu"), replace(SETTINGS, threads=2, precision="fast")):
        assert torch.get_num_threads() == 2
        assert torch.backends.cudnn.allow_tf32
        assert torch.is_inference_mode_enabled()
    assert before == (torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)


class Counting:
    """A reader that knows how many batches were asked for."""

    def __init__(self, fail_at: int = -1):
        self.reads = 0
        self.fail_at = fail_at

    def __call__(self, start: int, stop: int):
        self.reads += 1
        if self.reads == self.fail_at:
            raise OSError("the disk is gone")
        return np.arange(start, stop, dtype=np.float32), None


def test_batches_are_read_ahead_by_a_bounded_number():
    read = Counting()
    stream = feeding.batches(read, 1000, 10, torch.device("cpu"), ahead=2)
    next(stream)
    time.sleep(0.3)
    # One handed out, two waiting, one in the thread's hands.
    assert read.reads <= 4
    stream.close()
    assert read.reads <= 5


def test_batches_have_fixed_composition():
    got = [clips.tolist() for clips, _, _ in feeding.batches(Counting(), 5, 2, torch.device("cpu"), ahead=1)]
    assert got == [[0, 1], [2, 3], [4]]


def test_an_error_of_the_reading_thread_arrives():
    with pytest.raises(OSError, match="the disk is gone"):
        list(feeding.batches(Counting(fail_at=2), 100, 10, torch.device("cpu"), ahead=2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "gpu"}, r"\[extraction\] device: found 'gpu', expected auto, cpu, cuda or cuda:<index>"),
        ({"precision": "half"}, r"\[extraction\] precision: found 'half', expected exact or fast"),
        ({"threads": 0}, r"\[extraction\] threads: found 0, expected 1 or more"),
        ({"video_batch_clips": -1}, r"\[extraction\] video_batch_clips: found -1"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(SettingsError, match=message):
        ExtractionSettings(**values)
