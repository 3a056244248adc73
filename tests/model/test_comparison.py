"""Two results on the same videos, or on the ones they share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model import comparison, metrics
from model.comparison import TestPredictions
from pipeline import h5, schemas
from pipeline.errors import PipelineError, SettingsError
from tasks import __main__ as command
from tests.pipeline import report_artefacts as made

SEEN, UNSEEN = ("a", "b"), ("x", "y")


def result(seed: int = 0, count: int = 40, **changes) -> TestPredictions:
    generator = np.random.default_rng(seed)
    classes = np.array([*SEEN, *UNSEEN])
    target = np.repeat(classes, count // 4)
    predicted = np.where(generator.random(count) < 0.6, target, generator.choice(classes, count))
    zero_shot = np.where(generator.random(count) < 0.6, target, generator.choice(np.array(UNSEEN), count))
    ids = np.array([f"v{k:03d}" for k in range(count)])
    made = TestPredictions(f"run {seed}", "list 1", ids, target, predicted, zero_shot, SEEN, UNSEEN)
    return replace(made, **changes)


def test_scores_equal_those_of_the_evaluation():
    """Distances that give the same predictions, through model.metrics."""
    one = result()
    classes = np.array([*SEEN, *UNSEEN])
    ids = {name: k for k, name in enumerate(classes)}
    distances = np.ones((40, 4))
    distances[np.arange(40), [ids[name] for name in one.predicted]] = 0
    zero_shot = np.ones((40, 4))
    zero_shot[np.arange(40), [ids[name] for name in one.zero_shot]] = 0
    target = np.array([ids[name] for name in one.target])
    expected = metrics.evaluate(distances, target, np.array([0, 1]), np.array([2, 3]), np.zeros(1), zero_shot)
    values, empty = comparison.score(replace(one, zero_shot=np.where(zero_shot[:, 2] == 0, "x", "y")))
    for name in ("seen", "unseen", "harmonic_mean"):
        assert values[name] == pytest.approx(100 * expected.at_best()[name])
    assert empty == ()


def test_the_same_videos_need_no_restriction():
    found = comparison.compare([result(0), result(1)])
    assert found.videos == 40 and found.left_out == (0, 0)
    for row, one in zip(found.scores, (result(0), result(1)), strict=True):
        assert row.tolist() == [comparison.score(one)[0][name] for name in metrics.MEASURES]


def test_other_videos_are_refused_unless_restricted():
    whole, part = result(0), result(1, video_list="list 2").restricted(np.array([f"v{k:03d}" for k in range(5, 40)]))
    with pytest.raises(PipelineError, match="run 1: found video list restricted, expected list 1 as in run 0"):
        comparison.compare([whole, part])
    found = comparison.compare([whole, part], common=True)
    assert found.videos == 35 and found.left_out == (5, 0)
    assert found.scores[0].tolist() == [
        comparison.score(whole.restricted(part.id))[0][name] for name in metrics.MEASURES
    ]


def test_a_class_without_common_videos_is_named():
    part = result(1, video_list="list 2").restricted(np.array([f"v{k:03d}" for k in range(10, 40)]))
    found = comparison.compare([result(0), part], common=True)
    assert found.empty == ("a",)
    assert np.isfinite(found.scores).all()


def test_what_cannot_be_compared():
    with pytest.raises(PipelineError, match=r"run 1: found other test classes than in run 0 \(.*had no video"):
        comparison.compare([result(0), result(1, unseen=("x", "z"))], common=True)
    none = result(1, video_list="2", id=np.array([f"w{k:03d}" for k in range(40)]))
    with pytest.raises(PipelineError, match="run 0 and run 1: found no test video in common, expected some"):
        comparison.compare([result(0), none], common=True)
    other = result(1, video_list="2")
    other.target[3] = "b"
    with pytest.raises(PipelineError, match="run 1: video 'v003' has another class than in run 0, expected the same"):
        comparison.compare([result(0), other], common=True)


def test_stored_results_from_the_command_line(tmp_path, capsys):
    """Two seeds on the same videos, then one on fewer: scores as they were stored, and on what is common."""
    one, two = (entry.scores for entry in made.entries(tmp_path, seeds=(0, 1)))
    assert command.main(["compare", str(one), str(two)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["S", "U", "HM", "ZSL", "result"]
    for row, path in zip(rows[1:], (one, two), strict=False):
        with h5.read(path, schemas.SCORES) as file:
            stored = [f"{file[name][0]:.2f}" for name in metrics.MEASURES]
            columns = {column.name: file[column.name] for column in schemas.SCORES.columns}
            videos = len(file["id"])
        assert row.split() == [*stored, str(path)]
    assert rows[3:] == [f"on {videos} test videos"]

    fewer = {name: columns[name][5:] for name in ("id", "target", "predicted", "predicted_zero_shot", "embedding")}
    other = {"video_list_sha256": "34" * 32}
    lacking = made.write(tmp_path / "lacking.h5", schemas.SCORES, {**columns, **fewer}, other)
    with pytest.raises(PipelineError, match="lacking.h5: found video list 343434343434, expected 12121.*--common"):
        command.main(["compare", str(one), str(lacking)])
    assert command.main(["compare", str(one), str(lacking), "--common"]) == 0
    found = capsys.readouterr().out
    assert f"{one} (5 of its test videos left out)" in found and f"on {videos - 5} test videos" in found
    with pytest.raises(SettingsError, match="compare: found no file, expected one or more scores artefacts"):
        command.main(["compare"])
