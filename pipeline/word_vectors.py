"""Word vectors of a few hundred words out of files of gigabytes: only the wanted rows are kept.

Three formats: word2vec's binary one (GoogleNews), text (GloVe, word2vec, fastText ``.vec``) and fastText's ``.bin``,
whose sub-word arithmetic gives any string a vector. gensim's own loaders hold the whole table in memory; they are the
reference that the tests compare with.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.errors import SettingsError

FASTTEXT_MAGIC = 0x2F4F16BA
FASTTEXT_VERSIONS = (11, 12)
BLOCK_BYTES = 1 << 18  # fits the cache: twice as fast as 4 MB
HEAD_ROWS = 20
FORMATS = ("word2vec", "fasttext", "text")
WHERE_TO_GET = (
    "set [labels] path to a file of word vectors: GoogleNews-vectors-negative300.bin (word2vec), wiki.en.bin or "
    "cc.en.300.bin (fastText), or glove.6B.300d.txt (GloVe)"
)


@dataclass(frozen=True)
class WordRow:
    """``rank``: row of the word in its file (files are sorted by frequency); ``vector`` (size,) float32."""

    rank: int
    vector: np.ndarray


def detect(path: Path) -> str:
    """-> one of FORMATS, from the first bytes. Raises SettingsError if the file is missing or none of them."""
    path = Path(path)
    if not path.is_file():
        raise SettingsError(f"[labels] path: found no file {path}; {WHERE_TO_GET}")
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if len(start) >= 4 and struct.unpack("<i", start[:4])[0] == FASTTEXT_MAGIC:
        return "fasttext"
    first, _, rest = start.partition(b"\n")
    header = first.split()
    if len(header) == 2 and all(part.isdigit() for part in header):
        return "text" if _numbers_at_end(rest.partition(b"\n")[0]) >= int(header[1]) else "word2vec"
    if _numbers_at_end(first) > 1:
        return "text"
    raise SettingsError(
        f"[labels] path: {path} starts with {start[:24]!r}, which is no format of word vectors; expected word2vec "
        "(binary or text), GloVe text or fastText .bin; was it unpacked?"
    )


def _numbers_at_end(line: bytes) -> int:
    """-> how many fields after the first one are numbers, counted from the end."""
    count = 0
    for field in reversed(line.split()[1:]):
        try:
            float(field)
        except ValueError:
            break
        count += 1
    return count


def read(path: Path, backend: str, wanted: Collection[str]) -> dict[str, WordRow]:
    """-> the wanted words that the file has. ``backend``: one of FORMATS; of a repeated word the first row counts.

    Raises SettingsError if the file is damaged.
    """
    if backend == "fasttext":
        model = FastText(path, wanted)
        known = {word: model.vector(word) for word in wanted if model.knows(word)}
        return {word: WordRow(model.index[word.encode()], row) for word, row in known.items() if row is not None}
    rows = word2vec_rows(path, wanted) if backend == "word2vec" else text_rows(path, wanted)
    found: dict[str, WordRow] = {}
    for word, row in rows:
        found.setdefault(word, row)
    return found


def word2vec_rows(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, WordRow]]:
    """Rows of the wanted words of a word2vec binary file: header ``count size``, then word, space, float32 values.

    Read in small blocks: nothing but the block and the kept rows is in memory.
    """
    keys = {word.encode(): word for word in wanted}
    with Path(path).open("rb") as file:
        count, size = _counts(path, file.readline(256))
        width = 4 * size
        buffer, position = b"", 0
        for rank in range(count):
            space = buffer.find(b" ", position)
            if space < 0 or space + 1 + width > len(buffer):
                buffer, position = buffer[position:] + file.read(BLOCK_BYTES), 0
                space = buffer.find(b" ")
                if space < 0 or space + 1 + width > len(buffer):
                    raise SettingsError(
                        f"[labels] path: {path} ends within word {rank} of {count}, expected {width} bytes for each; "
                        "fetch it again"
                    )
            word = keys.get(buffer[position:space].lstrip(b"\n"))
            position = space + 1 + width
            if word is not None:
                yield word, WordRow(rank, np.frombuffer(buffer, "<f4", size, space + 1).astype(np.float32))


def _counts(path: Path, line: bytes) -> tuple[int, int]:
    try:
        count, size = (int(part) for part in line.split())
    except ValueError as error:
        raise SettingsError(
            f"[labels] path: {path} starts with {line[:24]!r}, expected the line 'words size' of a word2vec file"
        ) from error
    return count, size


def text_rows(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, WordRow]]:
    """Rows of the wanted words of a text file: one line a word, with or without a header ``count size``.

    GloVe has words with spaces in them, and words that are numbers: the values are counted from the end of the line,
    and without a header the shortest of the first rows says how many there are.
    """
    keys = {word.encode(): word for word in wanted}
    with Path(path).open("rb") as file:
        header = file.readline().split()
        if len(header) == 2:
            size = _counts(path, b" ".join(header))[1]
        else:
            file.seek(0)
            size = min(_numbers_at_end(line) for line, _ in zip(file, range(HEAD_ROWS), strict=False))
            file.seek(0)
        for rank, line in enumerate(file):
            # A line is only taken apart if its word can be wanted: parsing 300 numbers is what costs.
            if line[: line.find(b" ")] not in keys:
                continue
            parts = line.rstrip().rsplit(b" ", size)
            word = keys.get(parts[0])
            if word is None:
                continue
            try:
                vector = np.array([float(part) for part in parts[1:]], dtype=np.float32)
            except ValueError as error:
                raise SettingsError(f"[labels] path: {path}, row {rank}: {error}; expected {size} numbers") from error
            if len(vector) != size:
                raise SettingsError(
                    f"[labels] path: {path}, row {rank}: found {len(vector)} numbers, expected {size}; fetch it again"
                )
            yield word, WordRow(rank, vector)


class FastText:
    """A fastText ``.bin`` model: of its dictionary only ``wanted`` is kept, of its matrix rows are read when asked for.

    A string in the dictionary has its own row; ``vector`` is the mean of that row and the rows of its character
    n-grams, or of the n-grams alone. Raises SettingsError for what is not a fastText model or a quantised one.
    """

    def __init__(self, path: Path, wanted: Collection[str]):
        self.path = Path(path)
        self.wanted = {text.encode() for text in wanted}
        with self.path.open("rb") as file:
            self._read_header(file)
            self.index = self._read_dictionary(file)
            if struct.unpack("<?", self._take(file, 1))[0]:
                raise SettingsError(f"[labels] path: {path} is a quantised model (.ftz), expected a fastText .bin")
            self.rows, self.size = struct.unpack("<qq", self._take(file, 16))
            self.start = file.tell()
        expected = self.start + 4 * self.rows * self.size
        if self.path.stat().st_size < expected:
            raise SettingsError(
                f"[labels] path: {path} has {self.path.stat().st_size} bytes, expected at least {expected}; "
                "fetch it again"
            )

    def _take(self, file: BinaryIO, count: int) -> bytes:
        data = file.read(count)
        if len(data) != count:
            raise SettingsError(f"[labels] path: {self.path} ends at byte {file.tell()} of its header; fetch it again")
        return data

    def _read_header(self, file: BinaryIO) -> None:
        magic, version = struct.unpack("<ii", self._take(file, 8))
        if magic != FASTTEXT_MAGIC or version not in FASTTEXT_VERSIONS:
            raise SettingsError(
                f"[labels] path: {self.path} has magic {magic:#x} and version {version}, expected a fastText .bin "
                f"({FASTTEXT_MAGIC:#x}, version 11 or 12)"
            )
        arguments = struct.unpack("<12id", self._take(file, 56))
        model, self.buckets, self.shortest, self.longest = arguments[7:11]
        # Supervised models of version 11 were written with n-grams switched off, whatever the header says.
        if (version == 11 and model == 3) or not self.buckets:
            self.longest = 0

    def _read_dictionary(self, file: BinaryIO) -> dict[bytes, int]:
        size, words, _, _, pruned = struct.unpack("<iiiqq", self._take(file, 28))
        if pruned > 0:
            raise SettingsError(f"[labels] path: {self.path} has a pruned dictionary, expected a full fastText .bin")
        self.words = words
        index: dict[bytes, int] = {}
        buffer, position = b"", 0
        for row in range(size):
            end = buffer.find(b"\0", position)
            if end < 0 or end + 10 > len(buffer):
                buffer, position = buffer[position:] + file.read(BLOCK_BYTES), 0
                end = buffer.find(b"\0")
                if end < 0 or end + 10 > len(buffer):
                    raise SettingsError(f"[labels] path: {self.path} ends within its dictionary; fetch it again")
            if row < words and (word := buffer[position:end]) in self.wanted:
                index.setdefault(word, row)
            position = end + 10
        file.seek(position - len(buffer), 1)
        return index

    def knows(self, text: str) -> bool:
        """-> whether the whole string has a row of its own. Raises KeyError for one that was not wanted."""
        if text.encode() not in self.wanted:
            raise KeyError(text)
        return text.encode() in self.index

    def vector(self, text: str) -> np.ndarray | None:
        """-> (size,) float32, not normalised; None for a string without a row and without n-grams.

        Raises KeyError for a string that was not wanted.
        """
        from gensim.models.fasttext_inner import ft_hash_bytes

        rows = [self.words + ft_hash_bytes(gram) % self.buckets for gram in self._grams(text)] if self.longest else []
        if self.knows(text):
            rows.insert(0, self.index[text.encode()])
        if not rows:
            return None
        with self.path.open("rb") as file:
            total = np.zeros(self.size, dtype=np.float32)
            for row in rows:
                file.seek(self.start + 4 * row * self.size)
                total += np.frombuffer(file.read(4 * self.size), "<f4")
        return total / np.float32(len(rows))

    def _grams(self, text: str) -> list[bytes]:
        from gensim.models.fasttext_inner import compute_ngrams_bytes

        return compute_ngrams_bytes(text, self.shortest, self.longest)
