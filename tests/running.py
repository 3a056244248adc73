"""The real command on a small folder of videos, for the end-to-end tests and ``benchmarks/chaos.py``."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipeline import demo, demo_words, h5

ROOT = Path(__file__).parents[1]
CLASSES = ["red ball bouncing", "blue ladder spinning", "blue ball bouncing", "green board spinning"]
VIDEOS = 4
WORDS = ("--feature-set", "c3d_vggish", "--seeds", "0")


def make_folder(folder: Path, classes=CLASSES, count=VIDEOS) -> Path:
    """Write ``count`` demo videos per class as a user's folder, and a word2vec file beside it; -> the folder."""
    for name in classes:
        for number in range(count):
            path = folder / "videos" / name / f"{number:03d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            demo.write_video(path, f"{name.replace(' ', '_')}/{number:03d}.mp4", seed=1)
    demo_words.write_word_vectors(folder / "words.bin", 0)
    return folder / "videos"


class Run:
    """A folder of videos, a configuration and an artefact root; ``luigi`` runs the real command."""

    def __init__(self, folder: Path, root: str = "data"):
        self.folder, self.root = folder, folder / root
        self.workers = 2
        self.settings: dict[str, dict[str, object]] = {
            "paths": {"root": self.root},
            "labels": {"path": folder / "words.bin"},
            "weights": {"source": "generated"},
            "split": {"overlap": "off"},  # it would fetch a list of labels
            "training": {"epochs": 2, "batches_per_epoch": 5},
            "report": {"bootstrap_samples": 20},
        }

    def config(self) -> Path:
        """-> the shipped luigi.cfg with these settings in place of its own paths."""
        path = self.folder / f"{self.root.name}.cfg"
        shipped = (ROOT / "luigi.cfg").read_text().replace("[paths]\nroot = data\n", "")
        for name, values in self.settings.items():
            lines = "".join(f"{key} = {value}\n" for key, value in values.items())
            header = f"[{name}]\n"
            shipped = shipped.replace(header, header + lines) if header in shipped else f"{shipped}\n{header}{lines}"
        if not path.is_file() or path.read_text() != shipped:  # another run may be reading it
            path.write_text(shipped)
        return path

    def words(self, task="RunBenchmark", *words: str) -> list[str]:
        """-> task and parameters, as on the command line."""
        videos = ["--videos" if task == "RunBenchmark" else "--folder-videos", str(self.folder / "videos")]
        return [task, "--dataset", "folder", *videos, "--workers", str(self.workers), *(words or WORDS)]

    def command(self, task="RunBenchmark", *words: str) -> list[str]:
        return [sys.executable, "-m", "luigi", "--module", "tasks", *self.words(task, *words)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "LUIGI_CONFIG_PATH": str(self.config()), "PYTHONPATH": str(ROOT)}

    def luigi(self, task="RunBenchmark", *words: str) -> subprocess.CompletedProcess:
        return self.python(*self.command(task, *words)[1:])

    def python(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Python with these arguments and this configuration, to its end."""
        return subprocess.run([sys.executable, *arguments], env=self.environment(), cwd=self.folder,
                              capture_output=True, text=True, timeout=900, check=False)

    def start(self, *command: str, name: str = "", cwd: Path | None = None, **more: str) -> subprocess.Popen:
        """Start a command in a process group of its own; ``more``: environment; what it says goes to NAME.out."""
        with open(self.folder / f"{name or self.root.name}.out", "a") as out:
            return subprocess.Popen(command, env={**self.environment(), **more}, cwd=cwd or self.folder, stdout=out,
                                    stderr=out, start_new_session=True)

    def contents(self) -> dict[str, str]:
        """-> artefact -> content id."""
        return {str(path.relative_to(self.root)): h5.facts(path)["content_sha256"] for path in self.artefacts()}

    def inodes(self) -> dict[str, int]:
        """-> artefact -> inode, which changes when it is made anew; decoded shards, which come and go, left out."""
        return {str(path.relative_to(self.root)): path.stat().st_ino for path in self.artefacts()
                if path.parts[-3] != "decoded"}

    def artefacts(self) -> list[Path]:
        return [path for path in self.root.glob("*/*/*.h5") if not path.name.startswith(".")]


def report_of(result: subprocess.CompletedProcess) -> Path:
    """-> the folder of the report that a run ended with."""
    assert result.returncode == 0, result.stderr[-5000:]
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("Report: "), result.stdout
    return Path(last.removeprefix("Report: ")).parent


def scores(result: subprocess.CompletedProcess) -> list[dict[str, str]]:
    """-> rows of the scores.csv of that report."""
    return list(csv.DictReader((report_of(result) / "scores.csv").open()))


def started(result: subprocess.CompletedProcess) -> list[str]:
    """-> families of the tasks that ran, in order."""
    return [words[0] for words in told(result.stderr, "start")]


def told(text: str, event: str) -> list[list[str]]:
    """-> [family, dataset, name, ...] of each task that a run says it did ``start`` or has ``done``, in order."""
    return [line.split()[2:] for line in text.splitlines() if f" {event} " in line[8:16]]


def descendants(pid: int) -> list[int]:
    """-> processes below this one, whatever their depth."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [each for child in children for each in (child, *descendants(child))]


def kill(process: subprocess.Popen, rng: random.Random, first: str = "group") -> None:
    """Kill a run without warning: the whole ``group``, or first the ``main`` process or ``any`` below it."""
    below = descendants(process.pid)
    if first == "main" or (first == "any" and below):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid if first == "main" else rng.choice(below), signal.SIGKILL)
        time.sleep(rng.uniform(0, 1))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def disturb(run: Run, kills: int, rng: random.Random, longest_s: float = 10.0) -> int:
    """Start the run again and again, each time killed at a random moment; -> how often there was something to kill.

    Asserts that every artefact that lies there after a kill is whole, and that no finished work is done again.
    """
    hit = 0
    kept: dict[str, int] = {}
    for number in range(kills):
        process = run.start(*run.command())
        try:
            process.wait(timeout=rng.uniform(2, longest_s))
        except subprocess.TimeoutExpired:
            kill(process, rng, ("group", "any", "main")[number % 3])
            hit += 1
        found = run.inodes()
        assert {name: found[name] for name in kept} == kept, "finished work was done again"
        kept = found
        run.contents()
    return hit
