"""Rows out of files of word vectors, against gensim's own loaders."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from gensim.models import FastText, KeyedVectors, Word2Vec
from gensim.models.fasttext import load_facebook_vectors, save_facebook_model

from pipeline import word_vectors
from pipeline.errors import SettingsError
from tests.pipeline.artefacts import write_word2vec

TEXT = [["red", "ball", "bouncing"], ["blue", "square", "loud"], ["naïve", "red"], ["high", "jump"]] * 10


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small models written by gensim in every format."""
    folder = tmp_path_factory.mktemp("vectors")
    model = Word2Vec(TEXT, vector_size=12, min_count=1, epochs=1, workers=1, seed=1)
    model.wv.save_word2vec_format(str(folder / "words.bin"), binary=True)
    model.wv.save_word2vec_format(str(folder / "words.txt"), binary=False)
    lines = (folder / "words.txt").read_text(encoding="utf-8").splitlines()[1:]
    (folder / "glove.txt").write_text("\n".join([". . . " + lines[0].split(" ", 1)[1], *lines]), encoding="utf-8")
    fast = FastText(TEXT, vector_size=12, min_count=1, epochs=1, bucket=300, workers=1, seed=1)
    save_facebook_model(fast, str(folder / "fast.bin"))
    return folder


@pytest.mark.parametrize(
    ("name", "expected"), [("words.bin", "word2vec"), ("words.txt", "text"), ("glove.txt", "text")]
)
def test_wanted_rows_equal_gensim(files, name, expected):
    whole = KeyedVectors.load_word2vec_format(str(files / "words.bin"), binary=True)
    assert word_vectors.detect(files / name) == expected
    rows = word_vectors.read(files / name, expected, ["red", "naïve", "zebra"])
    assert sorted(rows) == ["naïve", "red"]
    for word, row in rows.items():
        np.testing.assert_allclose(row.vector, whole[word], atol=1e-6, rtol=1e-6)
        assert row.vector.dtype == np.float32
        assert row.rank == whole.key_to_index[word] + (name == "glove.txt")


def test_fasttext_gives_any_string_a_vector_as_gensim_does(files):
    assert word_vectors.detect(files / "fast.bin") == "fasttext"
    texts = ("red", "naïve", "Apply Eye Makeup", "playing flute", "x", "Über uns")
    theirs, ours = load_facebook_vectors(str(files / "fast.bin")), word_vectors.FastText(files / "fast.bin", texts)
    for text in texts:
        np.testing.assert_array_equal(ours.vector(text), theirs[text])
    assert ours.knows("naïve") and not ours.knows("Apply Eye Makeup")
    with pytest.raises(KeyError, match="ball"):
        ours.vector("ball")


def test_words_across_block_borders(tmp_path, monkeypatch):
    vectors = {f"w{i}": np.full(3, i, np.float32) for i in range(50)}
    path = write_word2vec(tmp_path / "small.bin", vectors)
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(word_vectors, "BLOCK_BYTES", max(size, 18))
        rows = word_vectors.read(path, "word2vec", list(vectors))
        assert [rows[word].vector[0] for word in vectors] == list(range(50))


def test_a_space_byte_within_a_vector_is_no_word_end(tmp_path):
    tricky = np.frombuffer(b"    \n\n\n\n  \n ", "<f4").copy()
    path = write_word2vec(tmp_path / "tricky.bin", {"a": tricky, "b": np.ones(3, np.float32)})
    rows = word_vectors.read(path, "word2vec", ["a", "b"])
    np.testing.assert_array_equal(rows["a"].vector, tricky)
    np.testing.assert_array_equal(rows["b"].vector, np.ones(3))


def test_of_a_repeated_word_the_first_row_counts(tmp_path):
    (tmp_path / "twice.txt").write_text("a 1 1 1\nb 2 2 2\na 3 3 3\n")
    assert word_vectors.read(tmp_path / "twice.txt", "text", ["a"])["a"].vector.tolist() == [1, 1, 1]


def test_what_is_no_file_of_vectors(tmp_path, files):
    with pytest.raises(SettingsError, match=r"\[labels\] path: found no file .*set \[labels\] path to a file of word"):
        word_vectors.detect(tmp_path / "absent.bin")
    (tmp_path / "page.bin").write_text("<html><body>not found</body></html>")
    with pytest.raises(SettingsError, match="no format of word vectors; expected word2vec .*was it unpacked"):
        word_vectors.detect(tmp_path / "page.bin")
    (tmp_path / "cut.bin").write_bytes((files / "words.bin").read_bytes()[:-20])
    with pytest.raises(SettingsError, match="ends within word .* expected 48 bytes for each; fetch it again"):
        word_vectors.read(tmp_path / "cut.bin", "word2vec", ["x"])
    (tmp_path / "line.txt").write_text("a 1 1 1\n" * 30 + "b 2 x 2\n")
    with pytest.raises(SettingsError, match="row 30: .*expected 3 numbers"):
        word_vectors.read(tmp_path / "line.txt", "text", ["b"])
    (tmp_path / "short.txt").write_text("a 1 1 1\n" * 30 + "c 1 2\n")
    with pytest.raises(SettingsError, match="row 30: found 2 numbers, expected 3"):
        word_vectors.read(tmp_path / "short.txt", "text", ["c"])
    with pytest.raises(SettingsError, match="starts with b'<html>.*expected the line 'words size'"):
        word_vectors.read(tmp_path / "page.bin", "word2vec", ["b"])


def test_damaged_fasttext_models(tmp_path, files):
    data = (files / "fast.bin").read_bytes()

    def refused(content: bytes, match: str) -> None:
        (tmp_path / "damaged.bin").write_bytes(content)
        with pytest.raises(SettingsError, match=match):
            word_vectors.FastText(tmp_path / "damaged.bin", ["red"])

    refused(data[:4] + struct.pack("<i", 9) + data[8:], "and version 9, expected a fastText .bin")
    refused(data[:30], "of its header; fetch it again")
    refused(data[:110], "ends within its dictionary; fetch it again")
    refused(data[: len(data) // 4], "bytes, expected at least .*; fetch it again")
    refused(data[:84] + struct.pack("<q", 5) + data[92:], "has a pruned dictionary, expected a full fastText .bin")
    position = word_vectors.FastText(files / "fast.bin", []).start - 17
    assert data[position] == 0
    refused(data[:position] + b"\1" + data[position + 1 :], "quantised model")
