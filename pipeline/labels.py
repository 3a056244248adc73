"""Label embeddings: class name -> text label -> words -> one 300-d vector per class.

The released vectors are fastText ``wiki.en.bin`` applied to the whole text label, capitals and spaces included, then
L2-normalised. Its loader gives row i of the table, sorted by text label, to class i of the list sorted by class name;
where the two orders differ, a class gets the vector of another one (deviation ``label_order``).
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import h5, published_files, restricted_pickle, schemas, word_vectors
from pipeline.errors import SettingsError
from pipeline.label_texts import SHORTEST_PIECE, hint, pieces_of, spellings, texts_of, words_of
from pipeline.tables import identity

BACKENDS = ("auto", "word2vec", "fasttext", "text", "published")
VECTOR_FILES = {
    "ucf": "w2v_features/word_embeddings_ucf_normed.npy",
    "activitynet": "w2v_features/word_embeddings_activity_normed.npy",
    "vggsound": "w2v_features/word_embeddings_vggsound_normed.npy",
}


@dataclass(frozen=True)
class LabelSettings:
    """``backend``: where vectors come from; ``auto`` looks at ``path``, and without one takes the dataset's own.

    ``path``: file of word vectors. ``aliases``: CSV file with the columns class_name,text_label, for classes whose
    name is not what should be embedded. ``upstream``: URL or folder of the released files (backend ``published``).
    """

    backend: str = "auto"
    path: str = ""
    aliases: str = ""
    upstream: str = published_files.URL

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise SettingsError(f"[labels] backend: found {self.backend!r}, expected one of {', '.join(BACKENDS)}")
        if self.backend in word_vectors.FORMATS and not self.path:
            raise SettingsError(f"[labels] path: found none for backend {self.backend}; {word_vectors.WHERE_TO_GET}")
        for name in ("path", "aliases"):
            object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))

    def content(self) -> dict[str, Any]:
        """-> what changes the vectors: files by their content; where verified files come from does not matter."""
        path = identity(self.path, "[labels] path", word_vectors.WHERE_TO_GET)
        return {"backend": self.backend, "path": path, "aliases": identity(self.aliases, "[labels] aliases")}


@dataclass(frozen=True)
class Label:
    """One embedded text. ``vector`` (300,) float32 of unit length; ``missing`` words have no vector of their own."""

    text: str
    vector: np.ndarray
    found: tuple[str, ...]
    missing: tuple[str, ...]


class UnknownText(SettingsError):
    """A text label without any vector."""

    def __init__(self, text: str, words: Sequence[str], path: Path, class_name: str = ""):
        self.text, self.words, self.path = text, tuple(words), path
        where = f"class {class_name!r}, text {text!r}" if class_name else f"{text!r}"
        super().__init__(
            f"[labels]: {where}: none of its words ({', '.join(words) or 'it has none'}) has a vector in {path}; give "
            "the class another text in an alias table ([labels] aliases = FILE with the columns class_name,text_label)"
        )


# Texts to vectors.


def embed_words(texts: Sequence[str], path: Path, backend: str) -> list[Label]:
    """Mean of the vectors of a text's words, L2-normalised. Joined words that are unknown are taken apart.

    Raises UnknownText for a text without any known word.
    """
    return _all_known(texts, _mean_known(texts, path, backend), path)


def _all_known(texts: Sequence[str], labels: Sequence[Label | None], path: Path) -> list[Label]:
    known = []
    for text, label in zip(texts, labels, strict=True):
        if label is None:
            raise UnknownText(text, words_of(text), path)
        known.append(label)
    return known


def _mean_known(texts: Sequence[str], path: Path, backend: str) -> list[Label | None]:
    """-> one label per text, None where no word is known."""
    words = {word for text in texts for word in words_of(text)}
    wanted = {form for word in words for form in spellings(word)}
    for word in words:
        spans = ((i, j) for i in range(len(word)) for j in range(i + SHORTEST_PIECE, len(word) + 1))
        wanted |= {word[i:j].lower() for i, j in spans}
    rows = word_vectors.read(path, backend, wanted)
    ranks = {word: row.rank for word, row in rows.items()}
    return [_mean_of_words(text, rows, ranks) for text in texts]


def _mean_of_words(text: str, rows: Mapping[str, word_vectors.WordRow], ranks: Mapping[str, int]) -> Label | None:
    found: list[str] = []
    missing: list[str] = []
    for word in words_of(text):
        known = [form for form in spellings(word) if form in rows][:1] or list(pieces_of(word, ranks))
        found += known
        missing += [] if known else [word]
    if not found:
        return None
    mean = np.stack([rows[word].vector for word in found]).mean(axis=0, dtype=np.float64)
    return Label(text, _unit(mean, text), tuple(found), tuple(missing))


def embed_phrases(texts: Sequence[str], path: Path) -> list[Label]:
    """fastText's vector of each whole text, as the published ones were made, L2-normalised.

    A model without n-grams has none of a text, only of words: their mean. Raises UnknownText as ``embed_words``.
    """
    return _all_known(texts, _phrases_known(texts, path), path)


def _phrases_known(texts: Sequence[str], path: Path) -> list[Label | None]:
    """-> one label per text, None where the model has no vector of it."""
    forms = {form for text in texts for word in words_of(text) for form in spellings(word)}
    model = word_vectors.FastText(path, forms.union(texts))
    if not model.longest:
        return _mean_known(texts, path, "fasttext")
    labels: list[Label | None] = []
    for text in texts:
        vector, words = model.vector(text), words_of(text)
        known = tuple(word for word in words if any(model.knows(form) for form in spellings(word)))
        missing = tuple(word for word in words if word not in known)
        if vector is None or not vector.any():
            labels.append(None)
        else:
            labels.append(Label(text, _unit(vector, text), known, missing))
    return labels


def published_labels(texts: Sequence[str], path: Path) -> list[Label]:
    """The released vectors of these texts, unchanged: they are normalised. ``path``: .npy dictionary text -> vector."""
    table = restricted_pickle.load(path)
    if not isinstance(table, dict):
        raise SettingsError(f"[labels] path: {path} holds a {type(table).__name__}, expected text label -> vector")
    absent = [text for text in texts if text not in table]
    if absent:
        raise SettingsError(
            f"[labels]: {path} has no vector for the text {absent[0]!r}{hint(absent[0], table)}; an alias needs a "
            "backend that can embed new text (fasttext, word2vec or text)"
        )
    return [Label(text, np.asarray(table[text], dtype=np.float32), words_of(text), ()) for text in texts]


def _unit(vector: np.ndarray, text: str) -> np.ndarray:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or length == 0:
        raise SettingsError(f"[labels]: the vector of {text!r} has length {length}, expected a positive number")
    return (vector / length).astype(np.float32)


def known_vectors(texts: Sequence[str], path: Path) -> dict[str, np.ndarray]:
    """-> text -> unit vector, of the texts of which a file of word vectors knows something."""
    backend = word_vectors.detect(path)
    found = _phrases_known(texts, path) if backend == "fasttext" else _mean_known(texts, path, backend)
    return {label.text: label.vector for label in found if label is not None}


# The published order.


def published_rows(texts: Mapping[str, str]) -> dict[str, str]:
    """-> class name -> the text whose vector the released loader gives it.

    Class i of the sorted names gets row i of the sorted texts. ``texts``: class name -> text label, of all classes of
    the dataset, used or not: 101, 200 and 309 (Table 1 counts the used ones). Sorting is by code point.
    """
    return dict(zip(sorted(texts), sorted(texts.values()), strict=True))


def shifted_classes(texts: Mapping[str, str]) -> list[str]:
    """-> classes that the published order gives another class's vector, sorted."""
    return sorted(name for name, text in published_rows(texts).items() if text != texts[name])


# The stage.


def embed(
    manifest_path: Path,
    dataset: str,
    settings: LabelSettings,
    output: h5.Output,
    write_vectors: Callable[[Path], object] | None = None,
) -> None:
    """One vector per class of the manifest, and the one that the published order gives it.

    ``write_vectors``: writes the dataset's own word vectors (the demo's) to a path; used where none are set.
    Raises SettingsError where no vectors can be had, for a class without any known word and for vectors that are not
    300-d.
    """
    with h5.read(manifest_path, schemas.MANIFEST) as file:
        names = [str(name) for name in file["class_name"]]
    texts = texts_of(names, dataset, settings.aliases)
    with tempfile.TemporaryDirectory() as scratch:
        if write_vectors is not None and settings.backend == "auto" and not settings.path:
            settings = replace(settings, path=str(Path(scratch) / f"{dataset}_word_vectors.bin"))
            write_vectors(Path(settings.path))
        backend, path = resolve(dataset, settings, Path(output.path).parent / "published")
        unique = sorted(set(texts.values()))
        try:
            labels = dict(zip(unique, embed_texts(unique, backend, path), strict=True))
        except UnknownText as error:
            name = next(name for name, text in sorted(texts.items()) if text == error.text)
            raise UnknownText(error.text, error.words, error.path, name) from error
        source = {"file": path.name, "identity": identity(str(path))}
    _write(names, texts, labels, output, {"backend": backend, "source": source})


def resolve(dataset: str, settings: LabelSettings, cache: Path) -> tuple[str, Path]:
    """-> (backend, file of vectors) that the settings mean for this dataset; fetches the published vectors."""
    backend = settings.backend
    if backend == "auto" and settings.path:
        is_table = settings.path.endswith((".npy", ".pkl"))
        backend = "published" if is_table else word_vectors.detect(Path(settings.path))
    if backend == "auto":
        if dataset not in VECTOR_FILES:
            raise SettingsError(
                f"[labels] path: found none, and dataset {dataset!r} has no vectors of its own; "
                f"{word_vectors.WHERE_TO_GET}"
            )
        backend = "published"
    if backend != "published":
        found = word_vectors.detect(Path(settings.path))
        if found != backend:
            raise SettingsError(f"[labels] backend: found {backend}, but {settings.path} is in the format {found}")
    elif not settings.path:
        if dataset not in VECTOR_FILES:
            raise SettingsError(
                f"[labels] backend: found published, which only {', '.join(VECTOR_FILES)} have; for {dataset!r} "
                f"{word_vectors.WHERE_TO_GET}"
            )
        return backend, published_files.fetch(VECTOR_FILES[dataset], settings.upstream, cache)
    return backend, Path(settings.path)


def embed_texts(texts: Sequence[str], backend: str, path: Path) -> list[Label]:
    """-> one label per text, by a backend other than ``auto``. Raises SettingsError for vectors that are not 300-d."""
    embedders: dict[str, Callable[[Sequence[str], Path], list[Label]]] = {
        "published": published_labels,
        "fasttext": embed_phrases,
        "word2vec": functools.partial(embed_words, backend="word2vec"),
        "text": functools.partial(embed_words, backend="text"),
    }
    labels = embedders[backend](texts, path)
    for label in labels:
        if label.vector.shape != (schemas.EMBEDDING_SIZE,):
            raise SettingsError(
                f"[labels] path: {path} has vectors of size {label.vector.size}, expected {schemas.EMBEDDING_SIZE}"
            )
    return labels


def _write(
    names: Sequence[str],
    texts: Mapping[str, str],
    labels: Mapping[str, Label],
    output: h5.Output,
    facts: Mapping[str, Any],
) -> None:
    folded = {name.casefold(): name for name in texts}
    own = [texts[folded[name.casefold()]] for name in names]
    published = published_rows(texts)
    given = [published[folded[name.casefold()]] for name in names]
    missing = {name: list(labels[text].missing) for name, text in zip(names, own, strict=True) if labels[text].missing}
    repeated = sorted({text for text in own if own.count(text) > 1})
    with output.create() as out:
        out.write("class_name", names)
        out.write("text", own)
        out.write("vector", np.stack([labels[text].vector for text in own]))
        out.write("published_vector", np.stack([labels[text].vector for text in given]))
        out.write("found", [" ".join(labels[text].found) for text in own])
        out.write("missing", [" ".join(labels[text].missing) for text in own])
        out.attributes.update(facts)
        out.attributes["partly_unknown"] = missing
        out.attributes["same_text"] = {t: [n for n, o in zip(names, own, strict=True) if o == t] for t in repeated}
        out.attributes["shifted_by_published_order"] = [n for n, o, g in zip(names, own, given, strict=True) if o != g]
