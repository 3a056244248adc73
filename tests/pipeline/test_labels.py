"""Class names to vectors: the published ones and their order, words, phrases, aliases, and every way to fail."""

from __future__ import annotations

import csv
import pickle
from dataclasses import replace

import numpy as np
import pytest
from gensim.models import FastText
from gensim.models.fasttext import load_facebook_vectors, save_facebook_model

from pipeline import h5, label_texts, labels, restricted_pickle, schemas
from pipeline.errors import ArtefactError, PipelineError, SettingsError
from pipeline.labels import LabelSettings
from tests.pipeline.artefacts import write_manifest, write_word2vec

SIZE = schemas.EMBEDDING_SIZE


def vector(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def embedded(tmp_path, names, settings, dataset="folder", **options):
    """-> columns and attributes of the label artefact for classes of one video each."""
    manifest = write_manifest(tmp_path / "manifest.h5", [(f"v{i}", name) for i, name in enumerate(names)])
    output = h5.Output(tmp_path / "labels.h5", schemas.LABELS)
    labels.embed(manifest, dataset, settings, output, **options)
    with h5.read(output.path, schemas.LABELS) as file:
        return {column.name: file[column.name] for column in schemas.LABELS.columns}, file.attributes


# The published vectors and their order.

COUNTS = {  # classes with another class's vector: all, used, and of those per role (train, val_unseen, test_unseen)
    "ucf": (79, 36, 51, (23, 8, 5)),
    "activitynet": (8, 8, 200, (5, 2, 1)),
    "vggsound": (205, 177, 276, (84, 51, 42)),
}


def used_classes(reference_data, dataset):
    path = reference_data / "data" / "splits" / f"{dataset}_classes.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return {row["class_name"]: row["role"] for row in csv.DictReader(file) if row["role"] != "unused"}


@pytest.mark.parametrize("dataset", COUNTS)
def test_the_published_order_gives_so_many_classes_anothers_vector(dataset, tmp_path, reference_data):
    whole, used, of, per_role = COUNTS[dataset]
    roles = used_classes(reference_data, dataset)
    settings = LabelSettings(upstream=str(reference_data / "data" / "upstream"))
    columns, facts = embedded(tmp_path, list(roles), settings, dataset)
    wrong = ~np.all(columns["vector"] == columns["published_vector"], axis=1)
    assert (wrong.sum(), len(wrong)) == (used, of)
    assert facts["shifted_by_published_order"] == columns["class_name"][wrong].tolist()
    assert len(labels.shifted_classes(label_texts.published_texts(dataset))) == whole
    found = tuple(
        sum(roles[name] == role for name in facts["shifted_by_published_order"])
        for role in ("train", "val_unseen", "test_unseen")
    )
    assert found == per_role


@pytest.mark.parametrize("dataset", COUNTS)
def test_vectors_are_the_published_ones(dataset, tmp_path, reference_data):
    roles = used_classes(reference_data, dataset)
    settings = LabelSettings(upstream=str(reference_data / "data" / "upstream"))
    columns, facts = embedded(tmp_path, list(roles), settings, dataset)
    with np.load(reference_data / "data" / "splits" / f"{dataset}_label_embeddings.npz") as table:
        expected = dict(zip(table["text_label"], table["vector"], strict=True))
    np.testing.assert_array_equal(columns["vector"], np.stack([expected[text] for text in columns["text"]]))
    np.testing.assert_allclose(np.linalg.norm(columns["vector"], axis=1), 1, atol=1e-6)
    assert facts["backend"] == "published"


def test_which_vectors_ucf_classes_really_got():
    given = labels.published_rows(label_texts.published_texts("ucf"))
    assert given["PlayingFlute"] == "Playing Guitar"
    assert given["ShavingBeard"] == "Shotput"
    assert given["Typing"] == "Uneven Bars"
    assert given["CuttingInKitchen"] == "Diving"
    assert given["Archery"] == "Archery"


def test_a_class_written_with_other_capitals_is_the_same_class(tmp_path, reference_data):
    settings = LabelSettings(upstream=str(reference_data / "data" / "upstream"))
    columns, _ = embedded(tmp_path, ["HandStandPushups", "Archery"], settings, "ucf")
    assert columns["text"].tolist() == ["Archery", "Handstand Pushups"]


# From words.

WORDS = {
    word: vector(i) for i, word in enumerate(["red", "ball", "Paris", "rock", "climbing", "roc", "TV", "bouncing"])
}


@pytest.fixture
def words_file(tmp_path):
    return write_word2vec(tmp_path / "words.bin", WORDS)


def test_the_vector_is_the_normalised_mean_of_the_words(tmp_path, words_file):
    names = ["RedBall", "ball_bouncing", "Rockclimbing", "paris", "tv", "red, zebra!"]
    columns, facts = embedded(tmp_path, names, LabelSettings(path=str(words_file)))
    row = {str(name): i for i, name in enumerate(columns["class_name"])}
    mean = (WORDS["red"] + WORDS["ball"]) / 2
    np.testing.assert_allclose(columns["vector"][row["RedBall"]], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(
        columns["vector"][row["paris"]], WORDS["Paris"] / np.linalg.norm(WORDS["Paris"]), atol=1e-6
    )
    assert columns["found"][row["Rockclimbing"]] == "rock climbing"
    assert columns["found"][row["tv"]] == "TV"
    assert columns["missing"][row["red, zebra!"]] == "zebra"
    assert facts["partly_unknown"] == {"red, zebra!": ["zebra"]}
    assert facts["source"]["file"] == "words.bin"
    assert columns["vector"].dtype == np.float32


def test_two_classes_with_one_text_are_told(tmp_path, words_file):
    _, facts = embedded(tmp_path, ["red ball", "red_ball", "rock"], LabelSettings(path=str(words_file)))
    assert facts["same_text"] == {"red ball": ["red ball", "red_ball"]}


def test_a_class_of_unknown_words_is_named(tmp_path, words_file):
    with pytest.raises(
        SettingsError, match=r"class 'ZebraGnu', text 'Zebra Gnu': none of its words \(Zebra, Gnu\) has"
    ):
        embedded(tmp_path, ["ZebraGnu", "red"], LabelSettings(path=str(words_file)))
    assert not (tmp_path / "labels.h5").exists()
    with pytest.raises(SettingsError, match=r"text '': none of its words \(it has none\).*alias table"):
        embedded(tmp_path, ["!!!", "red"], LabelSettings(path=str(words_file)))


def test_aliases_come_first(tmp_path, words_file):
    (tmp_path / "aliases.csv").write_text('class_name,text_label\nzebra,"rock, ball"\n')
    settings = LabelSettings(path=str(words_file), aliases=str(tmp_path / "aliases.csv"))
    columns, _ = embedded(tmp_path, ["zebra", "red"], settings)
    assert columns["text"].tolist() == ["red", "rock, ball"]
    assert columns["found"].tolist() == ["red", "rock ball"]
    with pytest.raises(
        SettingsError, match="has the row 'zebra','rock, ball', expected a class.*did you mean 'zebras'"
    ):
        embedded(tmp_path, ["zebras", "red"], settings)
    (tmp_path / "aliases.csv").write_text("class,text\nzebra,rock\n")
    with pytest.raises(SettingsError, match=r"found columns \['class', 'text'\], expected class_name, text_label"):
        embedded(tmp_path, ["zebra", "red"], settings)


def test_the_published_order_of_own_classes(tmp_path, words_file):
    (tmp_path / "aliases.csv").write_text("class_name,text_label\na,rock\nb,red\nc,ball\n")
    settings = LabelSettings(path=str(words_file), aliases=str(tmp_path / "aliases.csv"))
    columns, facts = embedded(tmp_path, ["a", "b", "c"], settings)
    for name, given in zip("abc", ("ball", "red", "rock"), strict=True):
        row = columns["class_name"].tolist().index(name)
        expected = WORDS[given] / np.linalg.norm(WORDS[given])
        np.testing.assert_allclose(columns["published_vector"][row], expected, atol=1e-6)
    assert facts["shifted_by_published_order"] == ["a", "c"]


def test_fasttext_embeds_the_whole_phrase(tmp_path):
    text = [["red", "ball", "bouncing"], ["blue", "square"]] * 5
    model = FastText(text, vector_size=SIZE, min_count=1, epochs=1, bucket=200, workers=1, seed=1)
    save_facebook_model(model, str(tmp_path / "fast.bin"))
    columns, facts = embedded(tmp_path, ["RedBall", "red"], LabelSettings(path=str(tmp_path / "fast.bin")))
    theirs = load_facebook_vectors(str(tmp_path / "fast.bin"))
    for phrase, ours in zip(("Red Ball", "red"), columns["vector"], strict=True):
        np.testing.assert_allclose(ours, theirs[phrase] / np.linalg.norm(theirs[phrase]), atol=1e-6)
    assert facts["backend"] == "fasttext"


def test_fasttext_without_ngrams_gives_the_mean_of_words(tmp_path):
    text = [["red", "ball", "rock", "climbing"]] * 5
    model = FastText(text, vector_size=SIZE, min_count=1, epochs=1, bucket=0, min_n=1, max_n=0, workers=1, seed=1)
    save_facebook_model(model, str(tmp_path / "fast.bin"))
    columns, _ = embedded(tmp_path, ["RedBall", "rockclimbing zebra"], LabelSettings(path=str(tmp_path / "fast.bin")))
    mean = (model.wv["red"] + model.wv["ball"]) / 2
    np.testing.assert_allclose(columns["vector"][0], mean / np.linalg.norm(mean), atol=1e-6)
    assert (columns["found"][1], columns["missing"][1]) == ("rock climbing", "zebra")
    with pytest.raises(SettingsError, match="class 'Gnu', text 'Gnu': none of its words"):
        embedded(tmp_path, ["Gnu", "red"], LabelSettings(path=str(tmp_path / "fast.bin")))
    assert set(labels.known_vectors(["Gnu", "red ball"], tmp_path / "fast.bin")) == {"red ball"}


def test_a_dataset_may_bring_its_own_vectors(tmp_path):
    columns, facts = embedded(
        tmp_path, ["red", "ball"], LabelSettings(), "demo", write_vectors=lambda path: write_word2vec(path, WORDS)
    )
    assert columns["found"].tolist() == ["ball", "red"]
    assert facts["source"]["file"] == "demo_word_vectors.bin"


def test_where_no_vectors_can_be_had(tmp_path, words_file):
    with pytest.raises(SettingsError, match=r"\[labels\] path: found none, and dataset 'folder' has no.*GoogleNews"):
        embedded(tmp_path, ["red", "ball"], LabelSettings())
    with pytest.raises(SettingsError, match=r"\[labels\] backend: found published, which only ucf, activitynet, vggs"):
        embedded(tmp_path, ["red", "ball"], LabelSettings(backend="published"))
    with pytest.raises(
        SettingsError, match=r"\[labels\] backend: found fasttext, but .*words.bin is in the format word2"
    ):
        embedded(tmp_path, ["red", "ball"], LabelSettings(backend="fasttext", path=str(words_file)))
    small = write_word2vec(tmp_path / "small.bin", {"red": vector(0, 50), "ball": vector(1, 50)})
    with pytest.raises(SettingsError, match="small.bin has vectors of size 50, expected 300"):
        embedded(tmp_path, ["red", "ball"], LabelSettings(path=str(small)))
    with pytest.raises(SettingsError, match=r"the vector of 'red' has length 0.0, expected a positive number"):
        zero = write_word2vec(tmp_path / "zero.bin", {"red": np.zeros(SIZE), "ball": vector(1)})
        embedded(tmp_path, ["red", "ball"], LabelSettings(path=str(zero)))
    with pytest.raises(SettingsError, match="class 'Sleeping' is not one of the 101 of ucf.*use --dataset folder"):
        embedded(tmp_path, ["Sleeping", "Archery"], LabelSettings(path=str(words_file)), "ucf")


def test_settings_are_checked():
    with pytest.raises(SettingsError, match=r"\[labels\] backend: found 'glove', expected one of auto, word2vec"):
        LabelSettings(backend="glove")
    with pytest.raises(SettingsError, match=r"\[labels\] path: found none for backend word2vec; set \[labels\] path"):
        LabelSettings(backend="word2vec")


def test_settings_are_told_by_the_content_of_files(tmp_path, words_file, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert LabelSettings(path="~/words.bin").path == str(words_file)
    settings = LabelSettings(path=str(words_file))
    moved = words_file.rename(tmp_path / "moved.bin")
    with pytest.raises(SettingsError, match=r"\[labels\] path: found no file .*words.bin, expected .*GoogleNews"):
        settings.content()
    before = replace(settings, path=str(moved)).content()
    assert LabelSettings(path=str(moved), upstream="elsewhere").content() == before
    moved.write_bytes(moved.read_bytes() + b"x")
    assert replace(settings, path=str(moved)).content() != before


def test_published_tables_that_are_not(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("run",)

    np.save(tmp_path / "trap.npy", np.array({"Archery": Trap()}, dtype=object), allow_pickle=True)
    with pytest.raises(ArtefactError, match="asks for builtins.print, expected arrays and plain containers only"):
        restricted_pickle.load(tmp_path / "trap.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "trap.npy").read_bytes()[:150])
    with pytest.raises(ArtefactError, match="cut.npy is damaged .*fetch it again"):
        restricted_pickle.load(tmp_path / "cut.npy")
    with pytest.raises(ArtefactError, match="absent.npy: no such file"):
        restricted_pickle.load(tmp_path / "absent.npy")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(SettingsError, match="list.pkl holds a list, expected text label -> vector"):
        labels.published_labels(["a"], tmp_path / "list.pkl")
    (tmp_path / "table.pkl").write_bytes(pickle.dumps({"Archery": vector(0)}))
    with pytest.raises(SettingsError, match="no vector for the text 'archery'; did you mean 'Archery'"):
        labels.published_labels(["archery"], tmp_path / "table.pkl")
    with pytest.raises(PipelineError, match="found no file .*nowhere.*expected a folder with the released files"):
        embedded(tmp_path, ["Archery", "Typing"], LabelSettings(upstream=str(tmp_path / "nowhere")), "ucf")


# Names to words.


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("PlayingYoYo", "Playing Yo Yo"),
        ("TVShow", "TV Show"),
        ("Rock-paper-scissors", "Rock paper scissors"),
        ("alligators, crocodiles hissing", "alligators crocodiles hissing"),
        ("red_ball__bouncing", "red ball bouncing"),
        ("child's play", "child's play"),
        ("'quoted'", "quoted"),
        ("take2", "take 2"),
        ("Ölmalerei", "Ölmalerei"),
        ("ÉcoleÉté", "École Été"),
        ("跳舞", "跳舞"),
        ("Cafe\u0301Bar", "Café Bar"),
        ("  ", ""),
    ],
)
def test_names_are_split_into_words(name, text):
    assert label_texts.text_of(name) == text
    assert label_texts.text_of(text) == text


def test_joined_words_are_taken_apart_by_frequency():
    ranks = {"rock": 5, "climbing": 9, "roc": 2, "kclimbing": 90000, "rockclimb": 50, "ing": 1}
    assert label_texts.pieces_of("Rockclimbing", ranks) == ("rock", "climbing")
    assert label_texts.pieces_of("rockzebra", ranks) == ()
    assert label_texts.pieces_of("", ranks) == ()


def test_spellings_of_a_word():
    assert label_texts.spellings("Child's")[0] == "child's"
    assert "child" in label_texts.spellings("Child's")
    assert label_texts.spellings("TV") == ("tv", "TV", "Tv")
