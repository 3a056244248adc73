"""Which label of a pre-training set a class is nearest to: the rules, and the rules against published decisions."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from pipeline import overlap
from pipeline.overlap import Match


def classes_of(reference_data, dataset):
    path = reference_data / "data" / "splits" / f"{dataset}_classes.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["role"] != "unused"]


# The rules against the published decisions. The figures stand in docs/labels_and_splits.md.

FOUND = {"ucf": (23, 0, 30), "activitynet": (81, 3, 99), "vggsound": (27, 5, 138)}


@pytest.mark.parametrize("dataset", FOUND)
def test_rules_against_the_published_decisions(dataset, reference_data):
    """Of VGGSound only the 138 classes that do not overlap are known: false alarms among them can be counted."""
    rows = classes_of(reference_data, dataset)
    lines = (reference_data / "data" / "splits" / "sports1m_labels.txt").read_text(encoding="utf-8").splitlines()
    found = [match.overlaps for match in overlap.nearest([row["text_label"] for row in rows], lines)]
    truth = [row["role"] == "train" for row in rows]
    hits = sum(f and t for f, t in zip(found, truth, strict=True))
    alarms = sum(found) - hits
    assert (hits, alarms, sum(truth)) == FOUND[dataset]
    precision, recall = overlap.precision_recall(found, truth)
    assert precision == hits / (hits + alarms) and recall == hits / sum(truth)


# The rules.


@pytest.mark.parametrize(
    ("text", "label", "score", "rule"),
    [
        ("Rockclimbing", "rock climbing", 1.0, "names"),
        ("Tumbling", "tumbling (gymnastics)", 1.0, "names"),
        ("Floor Gymnastics", "floor (gymnastics)", 1.0, "names"),
        ("Rope skipping", "skipping rope", 0.95, "stems"),
        ("Playing squash", "squash (sport)", 0.95, "stems"),
        ("Cliff Diving", "diving", 0.75, "part"),
        ("Playing ten pins", "ten-pin bowling", 0.75, "part"),
        ("Long Jump", "ski jumping", 0.4, "shared"),
        ("Mopping floor", "floor (gymnastics)", 0.3, "part"),
        ("Knitting", "archery", 0.0, ""),
    ],
)
def test_how_much_a_label_says_about_a_class(text, label, score, rule):
    found = overlap.name_score(text, label)
    assert found == (pytest.approx(score), rule)


@pytest.mark.parametrize(
    "words", ["swim swims swimming swimmer", "dance dancing danced dances", "ski skis skiing", "ball balls"]
)
def test_forms_of_a_word_share_a_stem(words):
    assert len({overlap.stem(word) for word in words.split()}) == 1


def test_meaning_decides_where_names_do_not():
    unit = {"Frisbee catch": np.array([1.0, 0.0]), "flying disc": np.array([0.8, 0.6]), "archery": np.array([0.0, 1.0])}
    lists = ["archery", "flying disc"]
    (match,) = overlap.nearest(["Frisbee catch"], lists, unit)
    assert match == Match("flying disc", match.score, "vectors") and match.overlaps
    assert match.score == pytest.approx(0.8)
    unit["flying disc"] = np.array([0.7, 0.714])
    (match,) = overlap.nearest(["Frisbee catch"], lists, unit)
    assert match.score == pytest.approx(0.7) and not match.overlaps
    (match,) = overlap.nearest(["Frisbee catch"], lists, {"Frisbee catch": unit["Frisbee catch"]})
    assert match == Match()


def test_precision_and_recall():
    assert overlap.precision_recall([True, True, False, False], [True, False, True, True]) == (0.5, 1 / 3)
    assert np.isnan(overlap.precision_recall([False], [False])).all()
