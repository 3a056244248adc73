"""Classes known from pre-training: rules against the published decisions, decision files, what a person feeds back."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from pipeline import h5, overlap, published_split, schemas, splits
from pipeline.errors import PipelineError, SettingsError
from pipeline.overlap import Decision, Match
from pipeline.splits import SplitSettings
from tests.pipeline.artefacts import write_manifest, write_word2vec


def classes_of(reference_data, dataset):
    path = reference_data / "data" / "splits" / f"{dataset}_classes.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["role"] != "unused"]


def sports1m(reference_data):
    return f"sports1m={reference_data / 'data' / 'splits' / 'sports1m_labels.txt'}"


# The rules against the published decisions. The figures stand in docs/labels_and_splits.md.

FOUND = {"ucf": (23, 0, 30), "activitynet": (81, 3, 99), "vggsound": (27, 5, 138)}


@pytest.mark.parametrize("dataset", FOUND)
def test_rules_against_the_published_decisions(dataset, reference_data):
    """Of VGGSound only the 138 classes that do not overlap are known: false alarms among them can be counted."""
    rows = classes_of(reference_data, dataset)
    lists = overlap.label_lists([sports1m(reference_data)], ("sports1m",), reference_data)
    found = [match.overlaps for match in overlap.nearest([row["text_label"] for row in rows], lists)]
    truth = [row["role"] == "train" for row in rows]
    hits = sum(f and t for f, t in zip(found, truth, strict=True))
    alarms = sum(found) - hits
    assert (hits, alarms, sum(truth)) == FOUND[dataset]
    precision, recall = overlap.precision_recall(found, truth)
    assert precision == hits / (hits + alarms) and recall == hits / sum(truth)


@pytest.mark.parametrize("dataset", ["ucf", "activitynet"])
def test_with_the_decisions_exactly_the_published_classes_may_be_unseen(dataset, reference_data):
    rows = classes_of(reference_data, dataset)
    names = [row["class_name"] for row in rows]
    decisions = splits.find_overlap(names, dataset, "selavi", SplitSettings(), reference_data / "no cache is needed")
    allowed = {name for name, decision in zip(names, decisions, strict=True) if not decision.overlap}
    assert allowed == {row["class_name"] for row in rows if row["role"] in ("val_unseen", "test_unseen")}
    assert all(decision.decided_by == f"file:{dataset}_overlap.csv (published)" for decision in decisions)


@pytest.mark.parametrize(("dataset", "main", "cls"), [("ucf", 9, 6), ("activitynet", 50, 48), ("vggsound", 69, 64)])
def test_unseen_test_classes_left_for_c3d_and_vggish(dataset, main, cls, reference_data):
    rows = classes_of(reference_data, dataset)
    names = [row["class_name"] for row in rows]
    settings = SplitSettings(lists=(sports1m(reference_data),))
    allowed = {}
    for feature_set in ("selavi", "c3d_vggish"):
        decisions = splits.find_overlap(names, dataset, feature_set, settings, reference_data)
        allowed[feature_set] = {name for name, decision in zip(names, decisions, strict=True) if not decision.overlap}
    published = {row["class_name"] for row in rows if row["role"] == "test_unseen"}
    assert (len(published & allowed["selavi"]), len(published & allowed["c3d_vggish"])) == (main, cls)
    gone = {row["class_name"] for row in rows if row["in_youtube8m_overlap"] == "1"}
    assert allowed["selavi"] - allowed["c3d_vggish"] == gone


def test_decisions_name_labels_that_exist(reference_data):
    labels = set(overlap.label_lists([sports1m(reference_data)], ("sports1m",), reference_data)["sports1m"])
    assert len(labels) == 487
    for dataset in published_split.FOLDERS:
        with (overlap.DECISIONS / f"{dataset}_overlap.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                assert not row["label"] or row["label"] in labels
                assert row["label"] == "" or row["overlap"] == "yes"


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
    lists = {"sports1m": ["archery", "flying disc"]}
    (match,) = overlap.nearest(["Frisbee catch"], lists, unit)
    assert match == Match("flying disc", "sports1m", match.score, "vectors") and match.overlaps
    assert match.score == pytest.approx(0.8)
    unit["flying disc"] = np.array([0.7, 0.714])
    (match,) = overlap.nearest(["Frisbee catch"], lists, unit)
    assert match.score == pytest.approx(0.7) and not match.overlaps
    (match,) = overlap.nearest(["Frisbee catch"], lists, {"Frisbee catch": unit["Frisbee catch"]})
    assert match == Match()


# Decision files, and the stage.

CLASSES = ("archery", "knitting", "long jump", "mopping", "painting", "typing")


def split_of(tmp_path, settings, feature_set="selavi", name="split"):
    manifest = write_manifest(tmp_path / "m.h5", [(f"{c} {k}", c) for c in CLASSES for k in range(10)])
    output = h5.Output(tmp_path / f"{name}.h5", schemas.SPLIT)
    splits.build(manifest, "folder", feature_set, settings, frozenset(), output)
    with h5.read(output.path, schemas.SPLIT) as file:
        columns = [file[c] for c in ("class_name", "overlap", "overlap_label", "overlap_score", "decided_by", "role")]
    return {str(row[0]): row[1:] for row in zip(*columns, strict=True)}


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "sports.txt").write_text("archery\nski jumping\nsewing\n")
    (tmp_path / "tube.txt").write_text("typing\n")
    return (f"sports1m={tmp_path / 'sports.txt'}", f"youtube8m={tmp_path / 'tube.txt'}")


def test_a_folder_is_compared_with_the_users_lists(tmp_path, lists):
    found = split_of(tmp_path, SplitSettings(lists=lists[:1]))
    assert found["archery"][:4] == (True, "archery", 1.0, "rule:names")
    assert found["long jump"][:2] == (True, "ski jumping") and found["long jump"][3] == "rule:shared"
    assert found["knitting"][:4] == (False, "", 0.0, "rule:none")
    assert all(found[name][4] == "train" for name in ("archery", "long jump"))
    assert split_of(tmp_path, SplitSettings(lists=lists, overlap="off"))["archery"][3] == "off"
    assert split_of(tmp_path, SplitSettings())["archery"][3] == "off"
    assert split_of(tmp_path, SplitSettings(lists=lists), "c3d_vggish")["typing"][0]


def test_what_a_person_corrects_is_fed_back(tmp_path, lists):
    split_of(tmp_path, SplitSettings(lists=lists[:1]))
    path = tmp_path / "split.overlap.csv"
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == "class_name,pretraining,overlap,label,decided_by,score"
    assert "archery,any,yes,archery,rule:names,1.00" in text
    edited = tmp_path / "mine.csv"
    edited.write_text(
        text.replace("archery,any,yes,archery,rule:names", "archery,any,no,,Ada").replace(
            "knitting,any,no,,rule:none", "knitting,any,yes,sewing,Ada"
        )
    )
    found = split_of(tmp_path, SplitSettings(lists=lists[:1], decisions=str(edited)), name="again")
    assert found["archery"][:4] == (False, "", 1.0, "file:mine.csv (Ada)")
    assert found["knitting"][:4] == (True, "sewing", 0.0, "file:mine.csv (Ada)")
    assert found["knitting"][4] == "train"
    assert found["long jump"][3] == "file:mine.csv (rule:shared)"


def test_meaning_is_looked_up_in_a_file_of_vectors(tmp_path, lists):
    knit = np.ones(5, np.float32)
    write_word2vec(tmp_path / "words.bin", {"knitting": knit, "sewing": knit + [0, 0, 0, 0, 0.5], "typing": -knit})
    found = split_of(tmp_path, SplitSettings(lists=lists[:1], vectors=str(tmp_path / "words.bin")))
    assert found["knitting"][:2] == (True, "sewing") and found["knitting"][3] == "rule:vectors"
    assert not found["typing"][0]


def test_rows_on_other_pretraining_do_not_count(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(
        "class_name,pretraining,overlap,label,decided_by\nTyping,sports1m,no,,p\ntyping,youtube8m,yes,Typing,p\n"
    )
    assert overlap.read_decisions(path, ("sports1m",), CLASSES) == {
        "typing": Decision(False, "", 0.0, "file:d.csv (p)")
    }
    assert overlap.read_decisions(path, ("sports1m", "youtube8m"), CLASSES)["typing"].overlap


def test_what_is_no_decision_file(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("class_name,pretraining,overlap,label,decided_by\ntyping,any,maybe,,p\n")
    with pytest.raises(SettingsError, match="found overlap 'maybe' for class 'typing', expected yes or no"):
        overlap.read_decisions(path, (), CLASSES)
    path.write_text("class_name,pretraining,overlap,label,decided_by\nsleeping,any,yes,,p\n")
    with pytest.raises(SettingsError, match="found no class of this dataset, expected decisions on some of its 6"):
        overlap.read_decisions(path, (), CLASSES)
    path.write_text("class_name,overlap\n")
    with pytest.raises(SettingsError, match=r"found columns \['class_name', 'overlap'\], expected class_name, pretr"):
        overlap.read_decisions(path, (), CLASSES)
    path.write_text("class_name,pretraining,overlap,label,decided_by\na,b, yes, x,y,z\n")
    with pytest.raises(SettingsError, match="line 2: found 6 fields, expected 5; a field with a comma"):
        overlap.read_decisions(path, (), CLASSES)
    with pytest.raises(SettingsError, match="nowhere.csv: no such table; expected a CSV file with the columns class_n"):
        overlap.read_decisions(tmp_path / "nowhere.csv", (), CLASSES)
    path.write_bytes(b"class_name\xff")
    with pytest.raises(SettingsError, match="d.csv: .*expected a CSV file in UTF-8"):
        overlap.read_decisions(path, (), CLASSES)


def test_lists_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"\[split\] lists: found 'kinetics', expected name=FILE with one label a"):
        overlap.label_lists(["kinetics"], (), tmp_path)
    monkeypatch.setattr(overlap, "SPORTS1M", str(tmp_path / "clone"))
    with pytest.raises(PipelineError, match="found no file .*labels.txt"):
        overlap.label_lists([], ("sports1m",), tmp_path)


def test_precision_and_recall():
    assert overlap.precision_recall([True, True, False, False], [True, False, True, True]) == (0.5, 1 / 3)
    assert np.isnan(overlap.precision_recall([False], [False])).all()
