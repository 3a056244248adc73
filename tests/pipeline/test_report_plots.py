from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline import plots, tsne

RANDOM = np.random.default_rng(0)


def words(count):
    return [f"class {k}" for k in range(count)]


def picture_of_many_classes():
    unseen = np.arange(276) >= 207
    values = RANDOM.random((276, 2)) * 100
    values[3] = np.nan
    return [plots.recalls(words(276), values, unseen, "r"),
            plots.confusion(words(276), RANDOM.integers(0, 9, (276, 276)), 207, "c")]


def test_pictures_of_a_large_dataset_stay_small_and_leave_names_out():
    for text in picture_of_many_classes():
        assert text.startswith("<svg") and text.endswith("</svg>")
        assert len(text) < 400_000


def test_ids_begin_with_the_name_of_the_picture_so_that_a_page_can_hold_several():
    text = plots.recalls(words(4), RANDOM.random((4, 1)) * 100, np.array([False, False, True, True]), "first")
    ids = re.findall(r'\bid="([^"]+)"', text)
    used = re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', text)
    assert ids and used and all(name.startswith("first-") for name in [*ids, *used])
    assert set(used) <= set(ids)


def test_the_same_numbers_give_the_same_picture_without_a_date():
    betas, curve = np.linspace(0, 3, 16), np.linspace(60, 20, 16)[None]
    one, two = (plots.stacking(betas, curve, curve[:, ::-1], [(1.2, 50.0, 40.0)], "a") for _ in range(2))
    assert one == two
    assert "date" not in one.lower() and "http://purl" not in one


def test_accuracies_of_zero_can_be_drawn():
    zero = np.zeros((1, 16))
    assert "<svg" in plots.stacking(np.linspace(0, 3, 16), zero, zero, [(0.0, 0.0, 0.0)], "a")
    nothing = np.full((1, 2, 2), np.nan)
    assert "<svg" in plots.overview(["one"], np.zeros((1, 2)), nothing, np.full((1, 2), 10.0), "b")
    assert "<svg" in plots.recalls(["x", "y"], np.full((2, 1), np.nan), np.array([False, True]), "c")
    assert "<svg" in plots.training([("loss", "", [plots.Curve("seed 0", np.array([1.0]))])], "d")


def test_seen_classes_get_cool_and_unseen_ones_warm_colours_all_different():
    unseen = [False] * 5 + [True] * 3
    colours = plots.class_colours(unseen)
    assert len(set(colours)) == 8
    assert colours[:4] == list(plots.COOL) and colours[5:] == list(plots.WARM[:3])


def test_a_map_is_the_same_every_time_and_keeps_separate_classes_apart():
    classes = np.repeat(np.arange(3), 20)
    features = (np.eye(3)[classes] * 9 + RANDOM.normal(size=(60, 3))).astype(np.float32)
    one = tsne.cloud("t", features, classes, 0, 9 * np.eye(3, dtype=np.float32), range(3))
    two = tsne.cloud("t", features, classes, 0, 9 * np.eye(3, dtype=np.float32), range(3))
    np.testing.assert_array_equal(one.points, two.points)
    assert one.points.shape == (60, 2) and one.labels.shape == (3, 2)
    distance = np.linalg.norm(one.points[:, None] - one.labels[None], axis=2)
    assert (distance.argmin(axis=1) == classes).mean() > 0.95


def chosen(dataset, names, unseen, target, videos=100):
    unseen = np.array(unseen)
    index = np.arange(len(names))
    return tsne.choose(dataset, np.array(names), index, unseen, np.array(target), 2, 1, videos)


def test_the_classes_of_the_papers_figure_are_taken_where_there_are_any():
    names = ["Archery", "BabyCrawling", "BandMarching", "Bowling", "PlayingFlute", "Typing"]
    choice = chosen("ucf", names, [False, False, True, False, True, True], np.repeat(np.arange(6), 4))
    assert choice.classes.tolist() == [1, 3, 2, 4] and choice.unseen.tolist() == [False, False, True, True]
    assert choice.rows.tolist() == [*range(4, 20)]


def test_otherwise_the_classes_with_the_most_videos_are_taken_each_with_its_share():
    target = [0] * 3 + [1] * 9 + [2] * 5 + [3] * 2 + [4] * 8
    choice = chosen("folder", words(6), [False, False, False, True, True, True], target, videos=12)
    assert choice.classes.tolist() == [1, 2, 4]
    assert np.bincount(np.array(target)[choice.rows]).tolist() == [0, 4, 4, 0, 4]


def test_a_class_without_test_videos_is_not_shown():
    choice = chosen("folder", words(4), [False, False, True, True], [1, 1, 3])
    assert choice.classes.tolist() == [1, 3]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_very_few_videos_still_give_a_map(count):
    features = RANDOM.normal(size=(count, 8)).astype(np.float32)
    found = tsne.cloud("t", features, np.zeros(count, int), 0, features[:1] + 1, [0])
    assert found.points.shape == (count, 2) and np.isfinite(found.points).all()
