"""The released folder layout: round trips in both directions, and what is wrong with a layout that can't be read."""

from __future__ import annotations

import pickle
import shutil

import h5py
import numpy as np
import pytest
import torch

from pipeline import h5, published_export, schemas
from pipeline.errors import ArtefactError, SettingsError
from pipeline.published_export import export_features
from pipeline.published_layout import import_features, read_texts
from tests.model import tiny


def imported(folder, path, published=frozenset()):
    import_features(folder, "selavi", published, h5.Output(path, schemas.BENCHMARK))
    with h5.read(path, schemas.BENCHMARK) as file:
        return {column.name: file[column.name] for column in schemas.BENCHMARK.columns}, file.attributes


@pytest.fixture
def layout(tmp_path):
    tiny.write(tmp_path / "b.h5")
    export_features(tmp_path / "b.h5", tmp_path / "layout", "selavi", "ucf")
    return tmp_path / "layout"


def files(folder):
    out = {}
    for path in sorted(folder.rglob("*.h5")):
        with h5py.File(path) as file:
            out[path.relative_to(folder)] = (file["data"][()], file["video_urls"][()].tolist())
    return out


def assert_same_files(a, b):
    assert a.keys() == b.keys()
    for key, (data, names) in a.items():
        np.testing.assert_array_equal(data, b[key][0])
        assert data.dtype == np.float32 and names == b[key][1]


@pytest.mark.parametrize("published", [frozenset(), frozenset({"label_order"})], ids=["corrected", "published"])
def test_a_benchmark_comes_back_as_it_was(layout, tmp_path, published):
    found, facts = imported(layout, tmp_path / "again.h5", published)
    benchmark = tiny.benchmark()
    for name in ("id", "class_index", "subset", "audio", "video", "class_name", "class_role"):
        np.testing.assert_array_equal(found[name], getattr(benchmark, name), err_msg=name)
    used = benchmark.class_role != "unused"
    np.testing.assert_array_equal(found["class_vector"][used], benchmark.class_vector[used])
    assert facts["coverage"]["train"] == {"videos": 30, "with_features": 30}
    assert facts["shifted_classes"] == []


def test_a_layout_comes_back_as_it_was_whatever_its_order(layout, tmp_path):
    first = files(layout)
    for key, (data, names) in first.items():
        if "stage_1_train" in key.parts:
            with h5py.File(layout / key, "w") as file:
                file["data"], file["video_urls"] = data[::-1], names[::-1]
    unsorted = {key: value for key, value in files(layout).items() if "stage_2_train" not in key.parts}
    imported(layout, tmp_path / "again.h5")
    export_features(tmp_path / "again.h5", tmp_path / "out", "selavi", "ucf")
    again = {key: value for key, value in files(tmp_path / "out").items() if "stage_2_train" not in key.parts}
    assert_same_files(unsorted, again)


def test_stage_2_train_repeats_the_three_subsets(layout):
    found = files(layout)
    names = [name for key, (_, names) in found.items() if "stage_2_train" in key.parts for name in names]
    wanted = tiny.benchmark().rows("train", "val_seen", "val_unseen")
    assert len(names) == 2 * len(wanted)  # audio and video


def test_the_released_loader_would_give_every_class_the_benchmarks_vector(layout):
    """It sorts classes and dictionary keys apart and pairs them by position."""
    path = next((layout / "features" / "main_features" / "text").iterdir())
    assert path.name == "word_embeddings_ucf_normed.npy"
    table = dict(sorted(np.load(path, allow_pickle=True).item().items()))
    np.testing.assert_array_equal(torch.FloatTensor(list(table.values())).numpy(), tiny.benchmark().class_vector)
    assert b"numpy._core" not in path.read_bytes()  # the released code runs on NumPy 1


def test_label_order_takes_rows_by_position_or_by_name(layout, tmp_path):
    table = layout / "class-split" / "ucf_w2v_class_names.csv"
    texts = {f"class {k}": f"text {9 - k}" for k in range(10)}
    table.write_text("original,manual\n" + "".join(f"{name},{text}\n" for name, text in texts.items()))
    vectors = {text: np.full(300, k, np.float32) for k, text in enumerate(texts.values())}
    np.save(layout / "features/main_features/text/word_embeddings_ucf_normed.npy", np.array(vectors, dtype=object),
            allow_pickle=True)
    corrected, _ = imported(layout, tmp_path / "c.h5")
    assert corrected["class_vector"][:, 0].tolist() == list(range(10))
    published, facts = imported(layout, tmp_path / "p.h5", frozenset({"label_order"}))
    assert published["class_vector"][:, 0].tolist() == list(range(9, -1, -1))
    assert len(facts["shifted_classes"]) == 9 and facts["label_order"] == "published"


def test_a_class_that_the_split_file_leaves_out_is_unused(layout, tmp_path):
    path = layout / "class-split" / "main_split" / "stage_2_test_unseen.txt"
    kept = path.read_text().splitlines()
    path.write_text(f"{kept[0]}\n")
    found, _ = imported(layout, tmp_path / "again.h5")
    assert found["class_role"][found["class_name"] == kept[1]].tolist() == ["unused"]
    assert kept[1] not in found["class_name"][found["class_index"]]


def test_files_may_write_a_class_in_other_capitals_than_the_list(layout, tmp_path):
    before, _ = imported(layout, tmp_path / "before.h5")
    for path in [*layout.rglob("class 0.h5"), *layout.rglob("class 7.h5")]:
        path.rename(path.with_name(path.name.replace("class", "CLASS")))
    after, _ = imported(layout, tmp_path / "after.h5")
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)


def of(layout, kind="audio", split="stage_1_train"):
    return layout / "features" / "main_features" / kind / split


def rewrite(path, **columns):
    with h5py.File(path, "w") as file:
        for name, value in columns.items():
            file[name] = value


class Evil:
    def __reduce__(self):
        return print, ("this must never run",)


def test_a_pickle_that_asks_for_code_is_refused_and_not_run(layout, tmp_path, capsys):
    path = layout / "features/main_features/text/word_embeddings_ucf_normed.npy"
    np.save(path, np.array({"class 0": Evil()}, dtype=object), allow_pickle=True)
    with pytest.raises(ArtefactError, match=r"the pickle asks for builtins.print, expected arrays and plain"):
        imported(layout, tmp_path / "x.h5")
    assert capsys.readouterr().out == ""


BREAKAGES = {
    r"stage_1_train: no such folder; expected the published layout": lambda f: shutil.rmtree(of(f)),
    r"found stage_1_train/class 0.h5 under video only, expected it": lambda f: (of(f) / "class 0.h5").unlink(),
    r"class 0.h5: can't be read .*; expected the datasets data and video_urls":
        lambda f: (of(f) / "class 0.h5").write_bytes(b"x"),
    r"class 0.h5: found data of shape \(3,\) and 3 video_urls, expected one row for each":
        lambda f: rewrite(of(f) / "class 0.h5", data=np.zeros(3), video_urls=["a", "b", "c"]),
    r"class 0.h5: found 1 videos, expected the 6 of the same file under video":
        lambda f: rewrite(of(f) / "class 0.h5", data=np.zeros((1, 12)), video_urls=["a"]),
    r"found features of widths \[5, 12\], expected one width in all files": lambda f: rewrite(
        of(f) / "class 0.h5", data=np.zeros((6, 5)), video_urls=files(f)[(of(f) / "class 0.h5").relative_to(f)][1]),
    r"text: found 0 files word_embeddings_\*_normed.npy, expected one":
        lambda f: next((f / "features/main_features/text").iterdir()).unlink(),
    r"found a list, expected a dictionary text -> vector": lambda f: (
        f / "features/main_features/text/word_embeddings_ucf_normed.npy").write_bytes(pickle.dumps([1])),
    r"found shape \(2,\) for 'class 0', expected \(300,\)": lambda f: (
        f / "features/main_features/text/word_embeddings_ucf_normed.npy"
    ).write_bytes(pickle.dumps({"class 0": [1, 2]})),
    r"found no vector for the text 'class 0', expected one for each used class": lambda f: (
        f / "features/main_features/text/word_embeddings_ucf_normed.npy").write_bytes(pickle.dumps({})),
    r"class-split: found no all_class.txt and 1 files \*_w2v_class_names.csv, expected one of each":
        lambda f: (f / "class-split" / "all_class.txt").unlink(),
    r"found no row for class 'extra', expected one for each": lambda f: (
        f / "class-split" / "all_class.txt").write_text("extra\n"),
    r"found features of class 'class 0', expected a class of all_class.txt": lambda f: (
        f / "class-split" / "all_class.txt").write_text("class 1\n"),
    r"found video '.*' in more than one place, expected each video once": lambda f: [
        shutil.copy(of(f, kind) / "class 0.h5", of(f, kind, "stage_1_val_seen") / "class 0.h5")
        for kind in ("audio", "video")],
    r"stage_1_val_unseen: found no class file, expected one or more": lambda f: [
        path.unlink() for kind in ("audio", "video") for path in of(f, kind, "stage_1_val_unseen").iterdir()],
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_a_layout_that_can_not_be_read(message, layout, tmp_path):
    BREAKAGES[message](layout)
    with pytest.raises(ArtefactError, match=message):
        imported(layout, tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()


def test_features_are_not_written_over(layout, tmp_path):
    with pytest.raises(ArtefactError, match=r"main_features: found features there, expected an empty place"):
        export_features(tmp_path / "b.h5", layout, "selavi", "ucf")
    with pytest.raises(SettingsError, match=r"feature set 'other': the published layout has no folder for it; known:"):
        export_features(tmp_path / "b.h5", layout, "other", "ucf")


def test_an_export_appears_whole_and_says_what_it_was_made_from(tmp_path, monkeypatch):
    tiny.write(tmp_path / "b.h5", tiny.benchmark())
    place = tmp_path / "out" / "features" / "main_features"

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(published_export, "write_classes", full)
        export_features(tmp_path / "b.h5", tmp_path / "out", "selavi", "demo")
    assert not place.exists()
    export_features(tmp_path / "b.h5", tmp_path / "out", "selavi", "demo")
    assert (place / published_export.MADE_FROM).read_text() == h5.facts(tmp_path / "b.h5")["content_sha256"]
    assert [path.name for path in place.parent.iterdir()] == ["main_features"]


def test_class_names_that_are_no_file_names(tmp_path):
    names = tiny.benchmark().class_name.astype(object)
    names[0] = "a/b"
    tiny.write(tmp_path / "b.h5", tiny.benchmark(class_name=names.astype(str)))
    with pytest.raises(ArtefactError, match=r"class 'a/b' can't be a file name, expected none with '/'"):
        export_features(tmp_path / "b.h5", tmp_path / "out", "selavi", "demo")


@pytest.mark.parametrize("name, classes, shifted", [("UCF", 101, 36), ("ActivityNet", 200, 8), ("VGGSound", 309, 177)])
def test_the_released_class_tables(reference_data, name, classes, shifted):
    from pipeline.labels import shifted_classes

    texts = read_texts(reference_data / "data" / "upstream" / "avgzsl_benchmark_datasets" / name)
    assert len(texts) == classes
    assert len(shifted_classes(texts)) >= shifted
