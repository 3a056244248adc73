"""Reading three hundred words out of a word2vec binary file of three million: ours against gensim's own loader.

    python benchmarks/labels.py [--words 3000000] [--folder /tmp] [--skip-gensim]

Makes the file (3.6 GB with the default), reads it three ways in fresh processes and prints seconds, speed,
processor seconds and peak memory: a plain read of all bytes (the disk), our reader, and gensim's. Checks that both
give the same vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZE = 300
WANTED = 300
BLOCK_WORDS = 10_000


def word(rank: int) -> str:
    """-> the made-up word of a row; lengths as varied as real ones."""
    return f"w{rank}" + "x" * (rank % 9)


def wanted(words: int) -> list[str]:
    """-> 300 words spread over the whole file, the last one among them."""
    return [word(int(rank)) for rank in np.linspace(0, words - 1, WANTED)]


def write_file(path: Path, words: int) -> None:
    """A word2vec binary file: header, then word, space, 300 float32 values per row."""
    generator = np.random.default_rng(0)
    block = generator.standard_normal((BLOCK_WORDS, SIZE), dtype=np.float32)
    with path.open("wb") as file:
        file.write(f"{words} {SIZE}\n".encode())
        for start in range(0, words, BLOCK_WORDS):
            block[:, 0] = np.arange(start, start + BLOCK_WORDS)
            count = min(BLOCK_WORDS, words - start)
            file.write(b"".join(word(start + i).encode() + b" " + block[i].tobytes() for i in range(count)))


def read_plain(path: Path, words: int) -> dict[str, list[float]]:
    with path.open("rb") as file:
        while file.read(1 << 22):
            pass
    return {}


def read_ours(path: Path, words: int) -> dict[str, list[float]]:
    from pipeline import word_vectors

    rows = word_vectors.read(path, "word2vec", wanted(words))
    return {name: row.vector[:3].tolist() for name, row in rows.items()}


def read_gensim(path: Path, words: int) -> dict[str, list[float]]:
    from gensim.models import KeyedVectors

    vectors = KeyedVectors.load_word2vec_format(str(path), binary=True)
    return {name: vectors[name][:3].tolist() for name in wanted(words)}


READERS = {"plain": read_plain, "ours": read_ours, "gensim": read_gensim}


def peak_megabytes() -> float:
    """-> peak of anonymous and mapped memory of this process, in MB (10^6 bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def measure(reader: str, path: Path, words: int) -> dict:
    """Run one reader in a process of its own.

    -> seconds, busy (seconds of the processor), megabytes (peak) and vectors (word -> first values).
    """
    command = [sys.executable, __file__, "--reader", reader, "--file", str(path), "--words", str(words)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=3_000_000)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--skip-gensim", action="store_true", help="gensim's loader needs 4 GB for three million words")
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        started, busy = time.perf_counter(), time.process_time()
        found = READERS[options.reader](options.file, options.words)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        print(json.dumps({"seconds": seconds, "busy": busy, "megabytes": peak_megabytes(), "vectors": found}))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "vectors.bin"
        write_file(path, options.words)
        size = path.stat().st_size / 1e6
        print(f"{options.words} words, {SIZE} values each, {size:.0f} MB; {WANTED} words wanted")
        results = {}
        for reader in READERS:
            if reader == "gensim" and options.skip_gensim:
                continue
            results[reader] = measure(reader, path, options.words)
            seconds, busy, megabytes = (results[reader][key] for key in ("seconds", "busy", "megabytes"))
            speed = f"{size / seconds:7.0f} MB/s"
            print(f"{reader:7s} {seconds:7.2f} s  {speed}  processor {busy:6.2f} s  peak {megabytes:6.0f} MB")
        assert len(results["ours"]["vectors"]) == WANTED
        if "gensim" in results:
            assert results["ours"]["vectors"] == results["gensim"]["vectors"]
            print("both give the same vectors")


if __name__ == "__main__":
    main()
