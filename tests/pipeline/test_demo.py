"""The demo's videos and word vectors: deterministic, varied, and what the class names say."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from pipeline import demo, demo_words
from pipeline.demo import CLASS_ROLES, DemoSettings
from pipeline.errors import PipelineError, SettingsError
from pipeline.media import probe

WORDS = {word for name in CLASS_ROLES for word in name.split()}


def shared(one: str, other: str) -> int:
    return len(set(one.split()) & set(other.split()))


def of_role(*roles: str) -> list[str]:
    return [name for name, role in CLASS_ROLES.items() if role in roles]


def indicators(names: list[str]) -> np.ndarray:
    return np.array([[word in name.split() for word in sorted(WORDS)] for name in names], dtype=float)


def test_every_word_occurs_in_every_role():
    assert len(CLASS_ROLES) == 16 and len(WORDS) == 10
    for role in ("train", "val_unseen", "test_unseen"):
        assert {word for name in of_role(role) for word in name.split()} == WORDS
    assert len(of_role("test_unseen")) * DemoSettings().videos_per_class >= 40


def test_the_parts_of_a_label_can_be_told_apart_from_the_training_classes():
    """Three factors of 4, 3 and 3 words: one mean and 3 + 2 + 2 differences, 8 dimensions in all."""
    assert np.linalg.matrix_rank(indicators(of_role("train"))) == 8
    for role in ("val_unseen", "test_unseen"):
        assert all(shared(a, b) <= 1 for a, b in itertools.combinations(of_role(role), 2))


def test_seen_words_say_nothing_about_each_other():
    seen = of_role("train", "val_unseen")
    for others in (demo.OBJECTS, demo.MOTIONS):
        pairs = [(colour, word) for name in seen for colour in demo.COLOURS for word in others
                 if {colour, word} <= set(name.split())]
        assert len(pairs) == len(set(pairs)) == len(demo.COLOURS) * len(others)


def test_ids_are_unique_and_sorted():
    ids = [video_id for video_id, _ in demo.video_ids(DemoSettings(videos_per_class=12))]
    assert len(ids) == 192 and ids == sorted(set(ids))


def test_equal_seeds_give_equal_files_and_every_video_is_another(tmp_path):
    names = ["blue_ball_spinning/000.mp4", "blue_ball_spinning/001.mp4"]
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        demo.write_videos(tmp_path / folder, seed, names)
    digests = [
        hashlib.sha256((tmp_path / folder / name).read_bytes()).hexdigest()
        for folder in ("one", "two", "three") for name in names
    ]
    assert digests[:2] == digests[2:4] and len(set(digests)) == 4
    assert sorted(path.name for path in (tmp_path / "one" / "blue_ball_spinning").iterdir()) == ["000.mp4", "001.mp4"]


def test_a_video_is_real_and_a_little_over_a_second(tmp_path):
    demo.write_videos(tmp_path, 0, ["green_ladder_flashing/003.mp4"])
    facts = probe(tmp_path / "green_ladder_flashing" / "003.mp4")
    assert (facts.video_codec, facts.audio_codec) == ("h264", "aac")
    assert (facts.width, facts.height, facts.fps, facts.frames) == (160, 120, 25.0, 30)
    assert facts.duration_s == pytest.approx(1.2) and facts.audio_duration_s >= 1.19
    assert (facts.audio_rate_hz, facts.audio_channels) == (44100, 1)


def test_existing_videos_are_left_alone(tmp_path):
    path = tmp_path / "red_ball_bouncing" / "000.mp4"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    calls: list[int] = []
    demo.write_videos(tmp_path, 0, ["red_ball_bouncing/000.mp4"], lambda: calls.append(1))
    assert path.read_bytes() == b"mine" and calls == [1]


def test_what_ffmpeg_says_is_passed_on(tmp_path, monkeypatch):
    tool = tmp_path / "ffmpeg"
    tool.write_text("#!/bin/sh\ncat > /dev/null\necho No space left on device >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setattr("pipeline.media.ffmpeg_path", lambda: str(tool))
    with pytest.raises(PipelineError, match="could not write this demo video: No space left on device; check the free"):
        demo.write_videos(tmp_path / "videos", 0, ["red_ball_bouncing/000.mp4"])
    assert not list((tmp_path / "videos").rglob("*.mp4"))


def test_colour_pitch_and_rhythm_are_those_of_the_words():
    for colour in demo.COLOURS:
        frames, samples = demo.render(f"{colour}_ball_spinning/000.mp4", 0)
        centre = frames[:, 45:75, 65:95].reshape(-1, 3).mean(axis=0)
        distance = {name: np.linalg.norm(centre / centre.max() - np.array(rgb) / max(rgb))
                    for name, rgb in demo.COLOURS.items()}
        assert min(distance, key=distance.__getitem__) == colour
        spectrum = np.abs(np.fft.rfft(samples))
        peak_hz = np.argmax(spectrum) * demo.RATE_HZ / len(samples)
        assert abs(peak_hz / demo.PITCHES_HZ[colour] - 1) < 0.1
    silent = {
        motion: np.mean(np.abs(demo.render(f"red_board_{motion}/000.mp4", 0)[1].reshape(-1, 420)).max(axis=1) < 0.02)
        for motion in demo.MOTIONS
    }
    assert silent["flashing"] > 0.3 > silent["spinning"] == 0


def test_videos_of_a_class_vary():
    frames = [demo.render(f"red_board_bouncing/{n:03d}.mp4", 0)[0].astype(float) for n in range(6)]
    backgrounds = [frame[:, :12, :12].mean() for frame in frames]
    assert np.std(backgrounds) > 5
    assert min(np.abs(a - b).mean() for a, b in itertools.combinations(frames, 2)) > 10


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("seed", -1, "0 or more"), ("videos_per_class", 9, "10 to 100"),
])
def test_settings_are_checked(name, value, expected):
    with pytest.raises(SettingsError, match=rf"\[demo\] {name}: found {value}, expected {expected}"):
        DemoSettings(**{name: value})


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    from gensim.models import KeyedVectors

    folder = tmp_path_factory.mktemp("words")
    for name in ("one.bin", "two.bin"):
        demo_words.write_word_vectors(folder / name, seed=0)
    assert (folder / "one.bin").read_bytes() == (folder / "two.bin").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["one.bin", "two.bin"]
    return KeyedVectors.load_word2vec_format(str(folder / "one.bin"), binary=True)


def test_labels_resemble_each_other_by_the_words_they_share(vectors):
    assert vectors.vector_size == 300 and all(word in vectors for word in WORDS)
    labels = {name: np.mean([vectors[word] for word in name.split()], axis=0) for name in CLASS_ROLES}
    labels = {name: label / np.linalg.norm(label) for name, label in labels.items()}
    by_shared: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for a, b in itertools.combinations(CLASS_ROLES, 2):
        by_shared[shared(a, b)].append(float(labels[a] @ labels[b]))
    assert max(by_shared[0]) + 0.05 < min(by_shared[1]) and max(by_shared[1]) + 0.05 < min(by_shared[2])


def test_the_words_of_the_classes_have_topics_of_their_own():
    assert set(demo_words.TOPICS) == WORDS
    assert all(word not in topic.split() for word in WORDS for topic in demo_words.TOPICS.values())
