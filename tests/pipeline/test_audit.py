"""The audit: leakage of the published splits to the clip, counts against the paper, coverage, and the page."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from pipeline import audit, h5, labels, leakage, schemas, splits
from pipeline.errors import ArtefactError
from tests.pipeline.artefacts import write_acquired, write_manifest

CLASSES = ("a", "b", "c", "d")


def split_table(reference_data, dataset):
    with (reference_data / "data" / "splits" / f"{dataset}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def recording(dataset, video):
    return video.rpartition("_c")[0] if dataset == "ucf" else video.rpartition("_")[0]


@pytest.mark.parametrize(("dataset", "expected"), [
    ("ucf", {"val_seen": (353, 353), "val_unseen": (0, 1467), "test_seen": (555, 555), "test_unseen": (0, 1267)}),
    ("activitynet", {"val_seen": (552, 1023), "test_seen": (784, 1615), "test_unseen": (1, 4199)}),
    ("vggsound", {"val_seen": (2591, 7817), "val_unseen": (0, 3102), "test_seen": (3144, 9032),
                  "test_unseen": (0, 3450)}),
])  # fmt: skip
def test_leakage_of_the_published_splits(dataset, expected, reference_data):
    rows = split_table(reference_data, dataset)
    found = leakage.leaks([recording(dataset, r["video_id"]) for r in rows], [r["subset"] for r in rows])
    for leak in found:
        if leak.subset in expected:
            assert (leak.shared, leak.videos) == expected[leak.subset]


def test_a_leak_is_counted_on_the_side_that_is_scored():
    keys = ["g1", "g1", "g2", "g2", "g3", "", "", "g4"]
    subset = ["train", "val_seen", "val_unseen", "test_seen", "test_unseen", "train", "test_seen", ""]
    found = {leak.subset: leak for leak in leakage.leaks(keys, subset)}
    assert (found["val_seen"].shared, found["val_seen"].share) == (1, 100)
    assert (found["test_seen"].shared, found["test_seen"].videos, found["test_seen"].groups) == (1, 2, 1)
    assert found["val_unseen"].shared == found["test_unseen"].shared == 0
    assert np.isnan(leakage.leaks([], [])[0].share)


def audited(
    tmp_path, acquired=None, pretraining=("sports1m",), dataset="folder", videos=None, published=frozenset(),
    groups=None, **given,
):
    videos = videos or [(f"{name}_{k:02d}", name) for name in CLASSES for k in range(10)]
    groups = {v: recording(dataset, v) for v, _ in videos} if groups is None else groups
    manifest = write_manifest(tmp_path / "m.h5", videos, groups)
    vectors = tmp_path / "w.txt"
    generator = np.random.default_rng(0)
    rows = "".join(f"{w} {' '.join(map(str, generator.normal(size=300).round(3)))}\n" for w in ("rock", "red", "ball"))
    vectors.write_text(rows)
    (tmp_path / "aliases.csv").write_text("class_name,text_label\na,rock\nb,red\nc,ball zebra\nd,rock\n")
    options = {"path": str(vectors), "aliases": str(tmp_path / "aliases.csv")}
    settings = given.pop("label_settings", None) or labels.LabelSettings(**options)
    labels.embed(manifest, dataset, settings, h5.Output(tmp_path / "l.h5", schemas.LABELS))
    output = h5.Output(tmp_path / "s.h5", schemas.SPLIT)
    given = given or {"overlap": "off"}
    options = splits.SplitSettings(**given)
    splits.build(manifest, dataset, pretraining, options, published, output, aliases=settings.aliases)
    output = h5.Output(tmp_path / "audit.h5", schemas.AUDIT)
    audit.audit(tmp_path / "m.h5", tmp_path / "l.h5", tmp_path / "s.h5", acquired, dataset, output)
    with h5.read(tmp_path / "audit.h5", schemas.AUDIT) as file:
        found = {(row[0], row[1]): tuple(row[2:]) for row in file["finding"].tolist()}
        return found, {row[0]: row for row in file["class"].tolist()}


@pytest.mark.parametrize(
    ("pretraining", "unseen", "classes"), [(("sports1m",), 1267, 9), (("sports1m", "youtube8m"), 845, 6)]
)
def test_ucf_against_the_paper(pretraining, unseen, classes, reference_data, tmp_path):
    rows = split_table(reference_data, "ucf")
    videos = [(r["video_id"], r["class_name"].replace("HandStand", "Handstand")) for r in rows]
    upstream = str(reference_data / "data" / "upstream")
    settings = labels.LabelSettings(upstream=upstream)
    found, table = audited(
        tmp_path,
        None,
        pretraining,
        "ucf",
        videos,
        frozenset({"label_order"}),
        label_settings=settings,
        upstream=upstream,
    )
    assert found["counts", "videos train"] == ("3174", "3174", "")
    assert found["counts", "classes test_unseen"] == (str(classes), str(classes), "")
    number, expected, remark = found["counts", "videos test_unseen"]
    assert number == str(unseen)
    if "youtube8m" in pretraining:
        nobody = found["overlap", "classes not looked at for youtube8m"]
        assert nobody[::2] == ("48 of 48", "nothing is published about them")
        assert expected == "865" and "table 8" in remark and "1267" in remark
        assert found["labels", "classes with another class's vector in the released order"][0] == "35 of 48"
        assert 'class="differs"' in (tmp_path / "audit.html").read_text(encoding="utf-8")
    else:
        assert expected == "1267"
        shifted = found["labels", "classes with another class's vector in the released order"]
        assert shifted[0] == "36 of 51" and "PlayingFlute" in shifted[2]
        item = "videos of test_seen with a clip of the same recording in its training data"
        assert found["leakage", item][0] == "555 of 555 (100.00 %)"
    assert table["PlayingFlute"][2] == "Playing Flute"


def test_what_was_acquired_is_counted_by_class_and_subset(tmp_path):
    ids = [f"{name}_{k:02d}" for name in CLASSES for k in range(10)]
    status = {video: "" for video in ids} | {"a_03": "unavailable", "b_01": "no_audio", "b_02": "no_audio"}
    sums = {video: f"sum of {video}" for video in ids} | {"a_00": "same", "b_00": "same"}
    groups_apart = frozenset({"split_groups"})
    found, table = audited(
        tmp_path, write_acquired(tmp_path / "acq.h5", status, sums), published=groups_apart, test_unseen_share=0.26,
        overlap="off",
    )
    got = [found["coverage", f"acquired of {name}"][0] for name in schemas.SUBSETS]
    assert sum(int(cell.split(" ")[0]) for cell in got) == 37
    assert found["coverage", "missing: no_audio"][0] == "2"
    assert found["leakage", "files that stand in two classes"] == ("1", "", "a_00, b_00")
    columns = {name: k for k, name in enumerate(audit.CLASS_COLUMNS)}
    for name, missing in (("a", 1), ("b", 2), ("c", 0)):
        videos = sum(int(table[name][columns[f"videos_{subset}"]]) for subset in schemas.SUBSETS)
        acquired = sum(int(table[name][columns[f"acquired_{subset}"]]) for subset in schemas.SUBSETS)
        assert (videos, acquired) == (10, 10 - missing)
    assert found["labels", "words of c without a vector"][0] == "zebra"
    assert found["labels", "classes with the text 'rock'"][0] == "a, d"


def test_the_page_and_the_tables_beside_it(tmp_path):
    found, table = audited(tmp_path, published=frozenset({"split_groups"}))
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    for section in ("counts", "labels", "overlap", "leakage", "coverage", "classes"):
        assert f'<h2 id="{section}">' in page
    assert "http" not in re.sub(r"<!DOCTYPE.*?>", "", page)
    with (tmp_path / "audit.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == audit.FINDING_COLUMNS and len(rows) == len(found)
    with (tmp_path / "audit.classes.csv").open(encoding="utf-8", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == set(table)
    assert found["coverage", "acquired"][0] == "not known"
    assert found["overlap", "classes not looked at for sports1m"][:2] == ("4 of 4", "")


def test_a_leak_of_recordings_that_nobody_knows_is_not_known(tmp_path):
    ids = [f"{name} {k:02d}" for name in CLASSES for k in range(10)]
    found, _ = audited(tmp_path, videos=[(video, video[0]) for video in ids], groups={})
    assert found["leakage", "clips of one recording"][0] == "not known"
    assert not any("the same recording" in item for _, item in found)
    assert h5.facts(tmp_path / "s.h5")["leakage"] is None


def test_names_are_escaped_on_the_page(tmp_path):
    inputs = audit.Finding("counts", "<script>", "1")
    audited(tmp_path, published=frozenset({"split_groups"}))
    whole = audit.read_inputs(tmp_path / "m.h5", tmp_path / "l.h5", tmp_path / "s.h5", None, "folder")
    assert "<script>" not in audit.page(whole, [inputs], [])


def test_artefacts_of_different_manifests_are_refused(tmp_path):
    audited(tmp_path, published=frozenset({"split_groups"}))
    write_manifest(tmp_path / "m.h5", [(f"{name}_{k:02d}", name) for name in CLASSES for k in range(9)])
    with pytest.raises(ArtefactError, match="are not all of .*m.h5, expected artefacts of one manifest: delete them"):
        audit.read_inputs(tmp_path / "m.h5", tmp_path / "l.h5", tmp_path / "s.h5", None, "folder")


def test_how_the_rules_did_is_told(tmp_path):
    (tmp_path / "sports.txt").write_text("rock\nred\n")
    (tmp_path / "mine.csv").write_text(
        "class_name,pretraining,overlap,label,decided_by\na,any,yes,rock,Ada\nb,any,no,,Ada\nc,any,no,,Ada\n"
    )
    found, table = audited(
        tmp_path,
        published=frozenset({"split_groups"}),
        lists=(f"sports1m={tmp_path / 'sports.txt'}",),
        decisions=str(tmp_path / "mine.csv"),
    )
    assert found["overlap", "classes known from pre-training"][0] == "2"
    assert found["overlap", "of them unseen"] == ("0", "0", "")
    assert found["overlap", "decided by Ada"][0] == "3"
    assert found["overlap", "decided by rule:names"][0] == "1"
    assert found["overlap", "precision of the rules against people's decisions"][0] == "0.500"
    assert found["overlap", "compared with the labels of"][0] == "sports1m (2 labels)"
    assert table["a"][5:7] == ["yes", "rock"]
