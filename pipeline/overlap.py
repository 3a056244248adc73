"""Which classes an extractor already knows from its pre-training, and so can't be unseen.

Class texts are compared with the labels of the pre-training sets by normalised names, word stems and, where word
vectors are given, by meaning. A decision file, which a person writes or corrects, always wins.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import published_files
from pipeline.errors import SettingsError
from pipeline.label_texts import text_of
from pipeline.tables import read_table, write_table

PRETRAINING = {"selavi": ("sports1m",), "c3d_vggish": ("sports1m", "youtube8m")}
DECISIONS = Path(__file__).parent / "datasets"
SPORTS1M = "https://raw.githubusercontent.com/gtoderici/sports-1m-dataset/32571bb90a805d8dfd5a709de352e62c8d6fb559"
ANY = "any"
DECISION_COLUMNS = ("class_name", "pretraining", "overlap", "label", "decided_by")

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
    pretraining: str = ""
    score: float = 0.0
    rule: str = ""

    @property
    def overlaps(self) -> bool:
        return self.score >= (COSINE_THRESHOLD if self.rule == "vectors" else THRESHOLD)


@dataclass(frozen=True)
class Decision:
    """``overlap``: whether pre-training covers the class; ``label`` causes it; ``decided_by``: who says so."""

    overlap: bool
    label: str
    score: float
    decided_by: str


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
    texts: Sequence[str],
    lists: Mapping[str, Sequence[str]],
    vectors: Mapping[str, np.ndarray] | None = None,
) -> list[Match]:
    """-> per class text the best match among all labels. ``vectors``: text or label -> unit vector."""
    pairs = [(label, pretraining) for pretraining, labels in lists.items() for label in labels]
    matches = []
    for text in texts:
        best = Match()
        for label, pretraining in pairs:
            score, rule = name_score(text, label)
            if score > best.score:
                best = Match(label, pretraining, score, rule)
        if vectors and not best.overlaps and text in vectors:
            best = max(best, _nearest_by_meaning(text, pairs, vectors), key=lambda match: (match.overlaps, match.score))
        matches.append(best)
    return matches


def _nearest_by_meaning(
    text: str, pairs: Sequence[tuple[str, str]], vectors: Mapping[str, np.ndarray]
) -> Match:
    pairs = [(label, name) for label, name in pairs if label in vectors]
    if not pairs:
        return Match()
    cosines = np.stack([vectors[label] for label, _ in pairs]) @ vectors[text]
    row = int(np.argmax(cosines))
    return Match(pairs[row][0], pairs[row][1], float(np.clip(cosines[row], 0, 1)), "vectors")


# Lists and decisions.


def label_lists(entries: Iterable[str], pretraining: Sequence[str], cache: Path) -> dict[str, list[str]]:
    """-> pre-training set -> its labels. ``entries``: name=file, one label a line; Sports-1M's is fetched if absent.

    Raises SettingsError for an entry that is not name=file or a file that is not there, PipelineError if Sports-1M's
    list can't be fetched.
    """
    lists = {}
    for entry in entries:
        name, separator, path = entry.partition("=")
        if not separator or not Path(path).is_file():
            raise SettingsError(f"[split] lists: found {entry!r}, expected name=FILE with one label a line in FILE")
        lists[name.strip()] = _lines(Path(path))
    if "sports1m" in pretraining and "sports1m" not in lists:
        lists["sports1m"] = _lines(published_files.fetch("labels.txt", SPORTS1M, Path(cache) / "sports1m"))
    return lists


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_decisions(path: Path, pretraining: Sequence[str], class_names: Sequence[str]) -> dict[str, Decision]:
    """-> class name -> what one file decides about it, for an extractor with these pre-training sets.

    A class overlaps if any of its rows says yes; rows on other pre-training sets don't count, ``any`` always does.
    Raises SettingsError for an overlap that is neither yes nor no, and if no row is about this dataset.
    """
    folded = {name.casefold(): name for name in class_names}
    found: dict[str, Decision] = {}
    met = False
    for row in read_table(path, DECISION_COLUMNS):
        if row["overlap"] not in ("yes", "no"):
            raise SettingsError(
                f"{path}: found overlap {row['overlap']!r} for class {row['class_name']!r}, expected yes or no"
            )
        name = folded.get(row["class_name"].casefold())
        met = met or name is not None
        if name is None or row["pretraining"] not in (*pretraining, ANY) or (name in found and found[name].overlap):
            continue
        who = f"file:{Path(path).name} ({row['decided_by'] or 'unsigned'})"
        found[name] = Decision(row["overlap"] == "yes", row["label"], _number(row.get("score", "")), who)
    if not met:
        raise SettingsError(
            f"{path}: found no class of this dataset, expected decisions on some of its {len(class_names)} classes "
            f"(such as {class_names[0]!r})"
        )
    return found


def _number(text: str) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def write_decisions(path: Path, class_names: Sequence[str], decisions: Sequence[Decision]) -> None:
    """Write every decision with its score, to be read, corrected and given back as ``[split] decisions``."""
    rows = [
        (name, ANY, "yes" if d.overlap else "no", d.label, d.decided_by, f"{d.score:.2f}")
        for name, d in zip(class_names, decisions, strict=True)
    ]
    write_table(path, (*DECISION_COLUMNS, "score"), rows)


def decide(
    class_names: Sequence[str], matches: Sequence[Match], decided: Sequence[Mapping[str, Decision]]
) -> list[Decision]:
    """-> one decision per class: the first of ``decided`` that has one, else what the rules say.

    The score is always the rules' own, so that a person sees where the two disagree.
    """
    decisions = []
    for name, match in zip(class_names, matches, strict=True):
        own = next((table[name] for table in decided if name in table), None)
        if own is None:
            decisions.append(Decision(match.overlaps, match.label, match.score, f"rule:{match.rule or 'none'}"))
        else:
            label = own.label or (match.label if own.overlap and match.overlaps else "")
            decisions.append(Decision(own.overlap, label, match.score or own.score, own.decided_by))
    return decisions


def precision_recall(found: Sequence[bool], truth: Sequence[bool]) -> tuple[float, float]:
    """-> (share of the found that are true, share of the true that are found); NaN where there are none."""
    hits = sum(f and t for f, t in zip(found, truth, strict=True))
    return (hits / sum(found) if any(found) else float("nan")), (hits / sum(truth) if any(truth) else float("nan"))
