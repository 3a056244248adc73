from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from model import metrics
from model.metrics import MetricError

SEEN, UNSEEN = np.array([1, 4, 7]), np.array([2, 9])
CLASSES = np.array([1, 2, 4, 7, 9])


def case(videos=60, seed=0):
    random = np.random.default_rng(seed)
    return random.random((videos, 5)), random.permutation(np.resize(CLASSES, videos))


def by_hand(distances, targets, beta):
    """One beta, one loop: what the released code does, in double precision."""
    shifted = distances + beta * np.isin(CLASSES, SEEN)
    predicted = CLASSES[shifted.argmin(1)]
    among_unseen = np.where(np.isin(CLASSES, UNSEEN), distances, np.inf)
    predicted_unseen = CLASSES[among_unseen.argmin(1)]

    def recall(found, group):
        return np.mean([(found[targets == k] == k).mean() for k in group])

    s, u = recall(predicted, SEEN), recall(predicted, UNSEEN)
    return s, u, 2 * s * u / (s + u + np.finfo(float).eps), recall(predicted_unseen, UNSEEN)


@pytest.mark.parametrize("seed", range(5))
def test_all_betas_at_once_equal_one_at_a_time(seed):
    distances, targets = case(seed=seed)
    distances *= 3
    found = metrics.evaluate(distances, targets, SEEN, UNSEEN)
    for i, beta in enumerate(metrics.BETAS):
        s, u, hm, zsl = by_hand(distances, targets, beta)
        np.testing.assert_allclose(
            [found.seen[i], found.unseen[i], found.harmonic_mean[i], found.zero_shot], [s, u, hm, zsl], atol=1e-15
        )
    assert found.beta == found.betas[np.argmax(found.harmonic_mean)]


def test_grid_is_sixteen_steps_of_a_fifth():
    np.testing.assert_allclose(metrics.BETAS, np.arange(16) / 5, atol=1e-6)


def test_equal_harmonic_means_go_to_the_smallest_beta():
    targets = CLASSES.copy()
    distances = 10.0 * (1 - np.eye(5))  # right at every beta
    assert metrics.evaluate(distances, targets, SEEN, UNSEEN).beta == 0


def test_equal_distances_go_to_the_lower_id():
    found = metrics.predict(np.zeros((1, 5)), SEEN, UNSEEN, np.array([0.0, 0.2]))
    assert found.generalised[:, 0].tolist() == [1, 2] and found.zero_shot.tolist() == [2]
    tie = np.array([[9.0, 1.0, 0.5, 9.0, 9.0]])  # class 2 (unseen) at 1.0, class 4 (seen) at 0.5 + 0.5
    assert metrics.predict(tie, SEEN, UNSEEN, np.array([0.5])).generalised[0, 0] == 2


def test_a_class_without_videos_is_left_out_and_named():
    distances, targets = case()
    keep = targets != 9
    found = metrics.evaluate(distances[keep], targets[keep], SEEN, UNSEEN)
    assert found.empty == (9,)
    share = metrics.recalls(found.predictions.generalised[0], targets[keep], CLASSES)
    assert np.isnan(share[-1]) and found.unseen[0] == share[1]
    with pytest.raises(MetricError, match=r"found no video of class 9, expected one or more of each under strict"):
        metrics.evaluate(distances[keep], targets[keep], SEEN, UNSEEN, strict=True)


def test_zero_shot_may_have_its_own_distances():
    distances, targets = case()
    perfect = 1.0 - (targets[:, None] == CLASSES)
    found = metrics.evaluate(distances, targets, SEEN, UNSEEN, zero_shot=perfect)
    assert found.zero_shot == 1 and found.seen[0] < 1


@pytest.mark.parametrize("change, message", [
    (dict(distances=np.zeros((60, 4))), r"found distances of shape \(60, 4\), expected \(videos, 5 classes\)"),
    (dict(targets=np.zeros(3, int)), r"found targets of shape \(3,\), expected one for each of 60 videos"),
    (dict(targets=np.full(60, 5)), r"found target class 5, expected one of the 5 classes searched"),
    (dict(unseen=np.array([1, 9])), r"class 1 is both seen and unseen, expected disjoint ids"),
    (dict(unseen=np.array([], int)), r"found 3 seen and 0 unseen classes, expected one or more of each"),
    (dict(distances=np.full((60, 5), np.nan)), r"found a distance of video 0 that is not finite"),
])
def test_arguments_that_do_not_fit(change, message):
    distances, targets = case()
    arguments = {"distances": distances, "targets": targets, "seen": SEEN, "unseen": UNSEEN, **change}
    with pytest.raises(MetricError, match=message):
        metrics.evaluate(**arguments)


def test_confusion_counts_every_video():
    distances, targets = case()
    found = metrics.evaluate(distances, targets, SEEN, UNSEEN)
    table = metrics.confusion(found.predictions.generalised[0], targets, CLASSES)
    assert table.sum() == 60 and table[1].sum() == (targets == 2).sum()
    share = metrics.recalls(found.predictions.generalised[0], targets, CLASSES)
    np.testing.assert_allclose(np.diag(table) / table.sum(1), share)


def test_numpy_only():
    modules = "model.metrics, model.protocol, model.registry, model.settings, model.evaluation"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
