"""Decisions on overlap: the project's, the user's, the rules'; what a person feeds back; lists; every way to fail."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import numpy as np
import pytest

from pipeline import decision_tables, decisions, h5, published_split, schemas, splits
from pipeline.decision_tables import Decision
from pipeline.errors import PipelineError, SettingsError
from pipeline.split_settings import SplitSettings
from tests.pipeline.artefacts import write_manifest, write_word2vec

S1, BOTH = ("sports1m",), ("sports1m", "youtube8m")
HEADER = "class_name,pretraining,overlap,label,decided_by\n"


def classes_of(reference_data, dataset):
    path = reference_data / "data" / "splits" / f"{dataset}_classes.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["role"] != "unused"]


@pytest.fixture
def sports1m(reference_data):
    return f"sports1m={reference_data / 'data' / 'splits' / 'sports1m_labels.txt'}"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No list can be fetched."""
    monkeypatch.setattr(decisions, "SPORTS1M", str(tmp_path / "nowhere"))


# The project's decisions.


@pytest.mark.parametrize(
    ("dataset", "main", "cls"), [("ucf", 9, 6), ("activitynet", 50, 48), ("vggsound", 69, 64)]
)
def test_exactly_the_published_classes_may_be_unseen(dataset, main, cls, reference_data, sports1m, tmp_path):
    """Of VGGSound's train classes nothing is published: there the rules decide."""
    rows = classes_of(reference_data, dataset)
    names = [row["class_name"] for row in rows]
    settings = SplitSettings(kind="curated", lists=(sports1m,))
    allowed = {}
    for sets in (S1, BOTH):
        found = decisions.find(names, dataset, sets, settings, "", tmp_path)
        covered = found.overlapping(names)
        allowed[sets] = {name for name, known in zip(names, covered, strict=True) if not known}
        assert found.compared == {"sports1m": 487} and found.unseen_lists == sets[1:]
        assert not any(np.isnan(row.score) for row in found.rows if row.pretraining == "sports1m")
    if dataset != "vggsound":
        assert allowed[S1] == {row["class_name"] for row in rows if row["role"] in ("val_unseen", "test_unseen")}
    published = {row["class_name"] for row in rows if row["role"] == "test_unseen"}
    assert (len(published & allowed[S1]), len(published & allowed[BOTH])) == (main, cls)
    assert allowed[S1] - allowed[BOTH] == {row["class_name"] for row in rows if row["in_youtube8m_overlap"] == "1"}


def test_decisions_name_labels_that_exist(reference_data, sports1m):
    labels = set(decisions.labels_in(reference_data / "data" / "splits" / "sports1m_labels.txt"))
    assert len(labels) == 487
    for dataset in published_split.FOLDERS:
        for row in decision_tables.of_project((), dataset).values():
            assert not row.label or (row.label in labels and row.overlap == "yes")


def test_where_everything_is_decided_no_list_is_needed(reference_data, tmp_path, offline):
    names = [row["class_name"] for row in classes_of(reference_data, "ucf")]
    found = decisions.find(names, "ucf", S1, SplitSettings(), "", tmp_path)
    assert sum(found.overlapping(names)) == 30 and all(np.isnan(row.score) for row in found.rows)
    assert {row.decided_by for row in found.rows} == {"published"}
    names = [row["class_name"] for row in classes_of(reference_data, "vggsound")]
    with pytest.raises(PipelineError, match=r"138 classes without a decision .*set \[split\] lists = sports1m=FILE"):
        decisions.find(names, "vggsound", S1, SplitSettings(), "", tmp_path)


# Decision files, and the stage.

CLASSES = ("archery", "knitting", "long jump", "mopping", "painting", "typing")


def split_of(tmp_path, settings, pretraining=S1, name="split", aliases=""):
    """-> class -> (covered, its decisive row, role)."""
    manifest = write_manifest(tmp_path / "m.h5", [(f"{c} {k}", c) for c in CLASSES for k in range(10)])
    output = h5.Output(tmp_path / f"{name}.h5", schemas.SPLIT)
    splits.build(manifest, "folder", pretraining, settings, frozenset(), output, aliases=aliases)
    with h5.read(output.path, schemas.SPLIT) as file:
        rows = decisions.decisive(decision_tables.stored({c.name: file[c.name] for c in schemas.SPLIT.columns}))
        columns = [file[column].tolist() for column in ("class_name", "overlap", "role")]
    return {n: (covered, rows[n], role) for n, covered, role in zip(*columns, strict=True)}


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "sports.txt").write_text("archery\nski jumping\nsewing\n")
    (tmp_path / "tube.txt").write_text("typing\n")
    return (f"sports1m={tmp_path / 'sports.txt'}", f"youtube8m={tmp_path / 'tube.txt'}")


def test_a_folder_is_compared_with_the_users_lists(tmp_path, lists):
    found = split_of(tmp_path, SplitSettings(lists=lists[:1]))
    assert found["archery"][1] == Decision("archery", "sports1m", "yes", "archery", "rule:names", 1.0, "yes")
    assert found["long jump"][1].label == "ski jumping" and found["long jump"][1].decided_by == "rule:shared"
    assert found["knitting"][1] == Decision("knitting", "sports1m", "no", "", "rule:none", 0.0, "no")
    assert all(found[name][0] and found[name][2] == "train" for name in ("archery", "long jump"))
    assert split_of(tmp_path, SplitSettings(lists=lists), BOTH)["typing"][0]


def test_classes_are_compared_by_their_aliases(tmp_path, lists):
    (tmp_path / "aliases.csv").write_text("class_name,text_label\npainting,sewing\n")
    assert not split_of(tmp_path, SplitSettings(lists=lists[:1]))["painting"][0]
    assert split_of(tmp_path, SplitSettings(lists=lists[:1]), aliases=str(tmp_path / "aliases.csv"))["painting"][0]


def test_what_nobody_has_looked_at_is_neither_yes_nor_no(tmp_path, lists, offline, caplog):
    assert split_of(tmp_path, SplitSettings(overlap="off"))["archery"][1].overlap == ""
    assert split_of(tmp_path, SplitSettings())["archery"][1].overlap == ""
    found = split_of(tmp_path, SplitSettings(lists=lists[:1]), BOTH)
    first, second = (record.getMessage() for record in caplog.records)
    assert re.search(r"no list of the labels of sports1m .*lists = sports1m=FILE, or \[split\] overlap = off", first)
    assert "no list of the labels of youtube8m (none is given), expected one to see which of 6 classes" in second
    assert found["archery"][1].overlap == "yes"
    facts = h5.facts(tmp_path / "split.h5")["overlap"]
    assert facts == {"compared": {"sports1m": 3}, "no_list": ["youtube8m"]}
    with pytest.raises(PipelineError, match="no list of the labels of youtube8m"):
        split_of(tmp_path, SplitSettings(lists=lists[:1], overlap="on"), BOTH)
    assert split_of(tmp_path, SplitSettings(), ())["archery"][1].pretraining == "any"


def test_what_a_person_corrects_is_fed_back(tmp_path, lists):
    split_of(tmp_path, SplitSettings(lists=lists), BOTH)
    text = (tmp_path / "split.overlap.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "class_name,pretraining,overlap,label,decided_by,score,rule"
    assert "archery,sports1m,yes,archery,rule:names,1.00,yes\narchery,youtube8m,no,,rule:none,0.00,no" in text
    edited = tmp_path / "mine.csv"
    edited.write_text(
        text.replace("archery,sports1m,yes,archery,rule:names", "archery,sports1m,no,,Ada").replace(
            "knitting,youtube8m,no,,rule:none", "Knitting,Any,yes,sewing,Ada"
        )
    )
    settings = SplitSettings(lists=lists, decisions=str(edited))
    found = split_of(tmp_path, settings, BOTH, "again")
    assert found["archery"][1] == Decision("archery", "sports1m", "no", "", "Ada", 1.0, "yes")
    assert found["knitting"][0] and found["knitting"][2] == "train" and found["knitting"][1].label == "sewing"
    assert found["long jump"][1].decided_by == "rule:shared"
    twice = split_of(tmp_path, replace(settings, decisions=str(tmp_path / "again.overlap.csv")), BOTH, "third")
    assert repr(twice) == repr(found)
    edited.write_text(text.replace("archery,sports1m,yes,archery,rule", "archery,sports1m,no,archery,rule"))
    with pytest.raises(SettingsError, match="found overlap 'no' for class 'archery' and sports1m signed 'rule:nam"):
        split_of(tmp_path, settings, BOTH)


@pytest.mark.parametrize("kind", ["published", "off"])
def test_tables_that_say_nothing_new_change_nothing(kind, tmp_path, reference_data, sports1m):
    """What lies beside a released split, or one made without looking, is fed back to one that looks."""
    rows = classes_of(reference_data, "ucf")
    names = [row["class_name"] for row in rows]
    found = decisions.not_looked_at(names, S1, "ucf" if kind == "published" else "")
    assert found.overlapping(names) == [row["role"] == "train" and kind == "published" for row in rows]
    decision_tables.write(tmp_path / "d.csv", found.rows)
    settings = SplitSettings(kind="curated", lists=(sports1m,))
    for sets in (S1, BOTH):
        without = decisions.find(names, "ucf", sets, settings, "", tmp_path)
        again = decisions.find(names, "ucf", sets, replace(settings, decisions=str(tmp_path / "d.csv")), "", tmp_path)
        assert repr(again) == repr(without)
        assert sum(again.overlapping(names)) == {S1: 30, BOTH: 33}[sets]


def test_a_decision_is_on_one_set(tmp_path, lists):
    path = tmp_path / "d.csv"
    path.write_text(HEADER + "Typing,sports1m,no,,Ada\nknitting,kinetics,yes,,Ada\n")
    kinetics = f"kinetics={tmp_path / 'tube.txt'}"
    found = split_of(tmp_path, SplitSettings(lists=(*lists, kinetics), decisions=str(path)), BOTH)
    assert found["typing"][0] and found["typing"][1].pretraining == "youtube8m"
    assert found["knitting"][0] and found["knitting"][1].pretraining == "kinetics"
    path.write_text(HEADER + "typing,any,no,,Ada\ntyping,kinetics,yes,,Eve\n")
    found = split_of(tmp_path, SplitSettings(lists=(*lists, kinetics), decisions=str(path)), BOTH)
    assert found["typing"][1].decided_by == "Eve"
    path.write_text(HEADER + "typing,any,no,,Ada\n")
    assert not split_of(tmp_path, SplitSettings(lists=lists, decisions=str(path)), BOTH)["typing"][0]


def test_meaning_is_looked_up_in_a_file_of_vectors(tmp_path, lists):
    knit = np.ones(5, np.float32)
    write_word2vec(tmp_path / "words.bin", {"knitting": knit, "sewing": knit + [0, 0, 0, 0, 0.5], "typing": -knit})
    found = split_of(tmp_path, SplitSettings(lists=lists[:1], vectors=str(tmp_path / "words.bin")))
    assert found["knitting"][0] and found["knitting"][1].decided_by == "rule:vectors"
    assert not found["typing"][0]


@pytest.mark.parametrize(("text", "match"), [
    (HEADER + "typing,any,maybe,,p", "found overlap 'maybe' for class 'typing', expected yes or no"),
    (HEADER + "typin,any,yes,,p", "found class 'typin', expected classes of this dataset; did you mean 'typing'"),
    (HEADER + "typing,sports1,yes,,p", "set 'sports1' for class 'typing', expected one of sports1m, .*mean 'sports1m'"),
    (HEADER + "typing,any,yes,,a\ntyping,any,no,,b", "found yes and no for class 'typing' and any, expected one of"),
    (HEADER + "typing,any,yes,,published", "signed 'published', who said 'nothing'; expected the name of who decided"),
    ("class_name,overlap", r"found columns \['class_name', 'overlap'\], expected class_name, pretr"),
    (HEADER + "a,b, yes, x,y,z", "line 2: found 6 fields, expected 5; a field with a comma"),
])  # fmt: skip
def test_what_is_no_decision_file(tmp_path, text, match):
    path = tmp_path / "d.csv"
    path.write_text(text + "\n")
    with pytest.raises(SettingsError, match=match):
        decision_tables.read(path, CLASSES, "folder", S1, {})


def test_tables_that_are_none(tmp_path):
    with pytest.raises(SettingsError, match="nowhere.csv: no such table; expected a CSV file with the columns class_n"):
        decision_tables.read(tmp_path / "nowhere.csv", CLASSES, "folder")
    (tmp_path / "d.csv").write_bytes(b"class_name\xff")
    with pytest.raises(SettingsError, match="d.csv: .*expected a CSV file in UTF-8"):
        decision_tables.read(tmp_path / "d.csv", CLASSES, "folder")


def test_lists_of_labels(tmp_path):
    (tmp_path / "audioset.csv").write_text('index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05,"Male speech, man"\n')
    assert decisions.labels_in(tmp_path / "audioset.csv") == ["Speech", "Male speech, man"]
    (tmp_path / "kinetics.txt").write_text("\ufeffabseiling\r\n\r\narchery\r\n", encoding="utf-8")
    assert decisions.labels_in(tmp_path / "kinetics.txt") == ["abseiling", "archery"]
    (tmp_path / "other.csv").write_text("id,words\n0,Speech\n")
    with pytest.raises(SettingsError, match=r"found columns \['id', 'words'\], expected one of display_name, Name"):
        decisions.labels_in(tmp_path / "other.csv")
    with pytest.raises(SettingsError, match=r"\[split\] lists: found 'kinetics', expected name=FILE with one label a"):
        SplitSettings(lists=("kinetics",))
