"""From class names to the words of their text labels: rules, published texts, aliases, spellings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.tables import read_table

TABLES = Path(__file__).parent / "datasets"
PUBLISHED = ("ucf", "activitynet", "vggsound")
SHORTEST_PIECE = 3


def text_of(class_name: str) -> str:
    """-> the name in words: CamelCase, digits, underscores, punctuation split. ``PlayingYoYo`` -> 'Playing Yo Yo'."""
    text = re.sub(r"[^\w']|_", " ", unicodedata.normalize("NFC", class_name))
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    pieces = []
    for previous, letter, following in zip(" " + text, text, text[1:] + " ", strict=False):
        starts = letter.isupper() and (previous.islower() or (previous.isupper() and following.islower()))
        if starts or (letter.isdigit() != previous.isdigit() and letter.isalnum() and previous.isalnum()):
            pieces.append(" ")
        pieces.append(letter)
    return " ".join("".join(pieces).split())


def published_texts(dataset: str) -> dict[str, str]:
    """-> class name -> published text label of a benchmark's dataset, all classes, by name; empty for another one."""
    path = TABLES / f"{dataset}_labels.csv"
    if dataset not in PUBLISHED:
        return {}
    return {row["class_name"]: row["text_label"] for row in read_table(path, ("class_name", "text_label"))}


def texts_of(class_names: Sequence[str], dataset: str, aliases: str = "") -> dict[str, str]:
    """-> class name -> text label, of all classes that the published table has, and of ``class_names``.

    Aliases come first, then the published texts (names compared case-folded), then the rule of ``text_of``.
    """
    table = published_texts(dataset)
    folded = {name.casefold(): name for name in table}
    unknown = [name for name in class_names if name.casefold() not in folded]
    if table and unknown:
        raise SettingsError(
            f"class {unknown[0]!r} is not one of the {len(table)} of {dataset}"
            f"{hint(unknown[0], table)}; use --dataset folder for classes of your own"
        )
    texts = {name: table.get(name) or text_of(name) for name in table or class_names}
    for row in read_table(Path(aliases), ("class_name", "text_label")) if aliases else ():
        name = folded.get(row["class_name"].casefold(), row["class_name"])
        if name not in texts or not row["text_label"]:
            raise SettingsError(
                f"[labels] aliases: {aliases} has the row {row['class_name']!r},{row['text_label']!r}, expected a "
                f"class of this dataset and a text{hint(name, texts)}"
            )
        texts[name] = row["text_label"]
    return texts


def hint(name: str, known: Mapping[str, object]) -> str:
    """-> the end of a message that names the nearest known name, if one is near."""
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def words_of(text: str) -> tuple[str, ...]:
    """-> the words of a text label, as written."""
    return tuple(text_of(text).split())


def spellings(word: str) -> tuple[str, ...]:
    """-> how a vocabulary may write a word, best first; the possessive s goes last."""
    bare = word.removesuffix("'s").replace("'", "")
    forms = (word.lower(), word, word.capitalize(), word.upper(), bare.lower(), bare.capitalize())
    return tuple(dict.fromkeys(form for form in forms if form))


def pieces_of(word: str, ranks: Mapping[str, int]) -> tuple[str, ...]:
    """-> the word as a sequence of known ones ('rockclimbing' -> rock, climbing), empty if there is none.

    Fewest pieces first, then the ones whose rarest word is the most frequent.
    """
    word = word.lower()
    best: list[tuple[int, int, tuple[str, ...]] | None] = [(0, 0, ())] + [None] * len(word)
    for end in range(SHORTEST_PIECE, len(word) + 1):
        for start in range(0, end - SHORTEST_PIECE + 1):
            before, piece = best[start], word[start:end]
            if before is not None and piece in ranks:
                candidate = (before[0] + 1, max(before[1], ranks[piece]), (*before[2], piece))
                if best[end] is None or candidate[:2] < best[end][:2]:  # type: ignore[index]
                    best[end] = candidate
    whole = best[-1]
    return whole[2] if whole else ()
