"""Word vectors for the ``demo`` dataset: a small text about its words, and word2vec trained on it.

The text plays the part of the large corpora behind published vectors. Each word stands among words of its own topic,
so that words differ, and a class's label, the mean of its words' vectors, resembles the labels that share its words.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

from pipeline.schemas import EMBEDDING_SIZE
from pipeline.storage import partial_path

SENTENCES_PER_WORD = 120
EPOCHS = 12
TOPICS = {
    "red": "cherry rose brick ruby tomato fire blood poppy rust sunset wine coral",
    "green": "grass leaf moss lime forest emerald cucumber meadow fern pea jade olive",
    "blue": "sky ocean sapphire lake ink denim iris river cobalt glacier dusk whale",
    "yellow": "lemon sun canary butter banana mustard honey straw corn daffodil gold sand",
    "ball": "round sphere marble orange pearl globe bubble pebble throw catch kick goal",
    "board": "square chess checker tile plank table game draughts pawn grid flat corner",
    "ladder": "rung climb rail step roof painter wall ascend tall lean height mason",
    "bouncing": "jump spring floor hop leap rebound trampoline thump up down drop rubber",
    "flashing": "lamp blink signal beep switch beacon pulse alarm lighthouse glimmer on off",
    "spinning": "turn wheel rotate whirl top carousel axis swirl twist orbit humming circle",
}
FILLERS = "the a one of with near there was very like and then some it is"


def sentences(seed: int) -> list[list[str]]:
    """-> the text: ten words each, one word of TOPICS among words of its topic and fillers, in random order."""
    generator = np.random.default_rng([seed, len(TOPICS)])
    text = []
    for word, topic in TOPICS.items():
        for _ in range(SENTENCES_PER_WORD):
            about = generator.choice(topic.split(), 5, replace=False)
            line = [word, *about, *generator.choice(FILLERS.split(), 4)]
            text.append([str(item) for item in generator.permutation(line)])
    return [text[row] for row in generator.permutation(len(text))]


def write_word_vectors(path: Path, seed: int) -> None:
    """Train word2vec (skip-gram, 300-d) on ``sentences`` and write it in the word2vec binary format.

    Equal seeds give equal bytes on one kind of machine: one worker, and a hash that does not change from run to run.
    """
    from gensim.models import Word2Vec

    model = Word2Vec(
        sentences(seed),
        vector_size=EMBEDDING_SIZE,
        window=9,
        min_count=1,
        sg=1,
        negative=10,
        sample=0,
        epochs=EPOCHS,
        alpha=0.05,
        seed=seed + 1,
        workers=1,
        hashfxn=lambda word: zlib.crc32(word.encode()),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    sibling = partial_path(path)
    try:
        model.wv.save_word2vec_format(str(sibling), binary=True)
        os.replace(sibling, path)
    finally:
        sibling.unlink(missing_ok=True)
