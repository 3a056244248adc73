"""The rules that say which label of a pre-training set a class is nearest to, and whether it is the same thing.

Class texts are compared with labels by normalised names, word stems and, where word vectors are given, by meaning.
``pipeline.decisions`` asks them where no person has decided.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.label_texts import text_of

# A class whose best score reaches this overlaps; docs/labels_and_splits.md shows what other values would give.
THRESHOLD = 0.4
COSINE_THRESHOLD = 0.75
# Verbs and function words that say nothing about what is played or used.
EMPTY_WORDS = frozenset(
    ("playing", "doing", "using", "getting", "having", "the", "a", "an", "in", "on", "with", "at", "of", "from", "and")
)
SUFFIXES = ("ing", "ers", "er", "ed", "es", "s")


@dataclass(frozen=True)
class Match:
    """The pre-training label nearest to a class. ``score`` 0 to 1; ``rule``: names, stems, part, shared or vectors."""

    label: str = ""
    score: float = 0.0
    rule: str = ""

    @property
    def overlaps(self) -> bool:
        return self.score >= (COSINE_THRESHOLD if self.rule == "vectors" else THRESHOLD)


# Comparing names.


def stem(word: str) -> str:
    """-> the word without its ending, for comparing: 'swimming', 'swims' -> 'swim'; 'dancing', 'dance' -> 'danc'."""
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
            word = word[: -len(suffix)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def content_words(text: str) -> list[str]:
    """-> lower-case words of a text without the empty ones; all of them if there are no others."""
    words = text_of(text.replace("'", "")).lower().split()
    return [word for word in words if word not in EMPTY_WORDS] or words


def name_score(text: str, label: str) -> tuple[float, str]:
    """How much a pre-training label says about a class, from the names alone -> (score 0 to 1, rule).

    names: the same letters (1). stems: the same words in any order and form (0.95). part: one contains all words of the
    other (0.55 to 0.9). shared: some words in common (below 0.55). What a label has in brackets may count or not.
    Where the class is something done to a thing ('mopping floor'), a label that lacks the doing counts little.
    """
    own, forms = _form(text), [_form(label), _form(re.sub(r"\(.*?\)", " ", label))]
    if own.letters in {form.letters for form in forms}:
        return 1.0, "names"
    return max(_stem_score(own, form) for form in forms)


@dataclass(frozen=True)
class Form:
    """A text, prepared for comparing: its letters without gaps, its content words and their stems."""

    letters: str
    words: tuple[str, ...]
    stems: frozenset[str]


@functools.lru_cache(maxsize=1 << 16)
def _form(text: str) -> Form:
    words = tuple(content_words(text))
    letters = "".join(text_of(text.replace("'", "")).lower().split())
    return Form(letters, words, frozenset(stem(word) for word in words))


def _stem_score(own: Form, label: Form) -> tuple[float, str]:
    ours, theirs = own.stems, label.stems
    both = ours & theirs
    if not both:
        return 0.0, ""
    if ours == theirs:
        return 0.95, "stems"
    if theirs <= ours:
        score, rule = 0.6 + 0.3 * len(both) / len(ours), "part"
    elif ours <= theirs:
        score, rule = 0.55 + 0.3 * len(both) / len(theirs), "part"
    else:
        same_head = stem(own.words[-1]) == stem(label.words[-1])
        score, rule = 0.5 * len(both) / max(len(ours), len(theirs)) + (0.15 if same_head else 0.0), "shared"
    done_to_a_thing = own.words[0].endswith("ing") and len(own.words) > 1 and stem(own.words[0]) not in both
    return (0.4 * score if done_to_a_thing else score), rule


def nearest(
    texts: Sequence[str], labels: Sequence[str], vectors: Mapping[str, np.ndarray] | None = None
) -> list[Match]:
    """-> per class text the best match among the labels. ``vectors``: text or label -> unit vector."""
    matches = []
    for text in texts:
        best = Match()
        for label in labels:
            score, rule = name_score(text, label)
            if score > best.score:
                best = Match(label, score, rule)
        if vectors and not best.overlaps and text in vectors:
            other = _nearest_by_meaning(text, labels, vectors)
            best = max(best, other, key=lambda match: (match.overlaps, match.score))
        matches.append(best)
    return matches


def _nearest_by_meaning(text: str, labels: Sequence[str], vectors: Mapping[str, np.ndarray]) -> Match:
    known = [label for label in labels if label in vectors]
    if not known:
        return Match()
    cosines = np.stack([vectors[label] for label in known]) @ vectors[text]
    row = int(np.argmax(cosines))
    return Match(known[row], float(np.clip(cosines[row], 0, 1)), "vectors")


def precision_recall(found: Sequence[bool], truth: Sequence[bool]) -> tuple[float, float]:
    """-> (share of the found that are true, share of the true that are found); NaN where there are none."""
    hits = sum(f and t for f, t in zip(found, truth, strict=True))
    return (hits / sum(found) if any(found) else float("nan")), (hits / sum(truth) if any(truth) else float("nan"))
