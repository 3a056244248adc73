"""What scheduling costs at VGGSound's size: ``python benchmarks/scheduling.py [--dataset vggsound] [--workers 2]``.

Runs the whole graph of a benchmark with builds that write empty artefacts, so that all that is measured is Luigi, the
identity and completeness of tasks, and the file system. Prints seconds to schedule, per task, of a run with nothing to
do and of ``status``, and memory; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import luigi
import numpy as np
from luigi.configuration import get_config

from pipeline import schemas
from pipeline.datasets import dataset_named
from tasks import Report, RunBenchmark, base, config, console, operate
from tasks.base import ArtefactTask

FEATURE_SETS = "selavi,c3d_vggish"
WORDS = ("--feature-set", FEATURE_SETS, "--methods", "all", "--seeds", "0")


def empty(task: ArtefactTask, output) -> None:
    """Write an artefact of the task's schema without rows; the acquired one needs entries, a report a page."""
    if isinstance(task, Report):
        task.page().parent.mkdir(parents=True, exist_ok=True)
        task.page().touch()
    with output.create() as file:
        for column in task.schema.columns:
            shape = tuple(a if isinstance(a, int) else int(a.partition("+")[2] or 0) for a in column.axes)
            if task.schema is schemas.ACQUIRED and column.name == "shard_content":
                shape = (dataset_named(task.dataset).shards(config.dataset_settings(task.dataset)),)
            file.write(column.name, np.zeros(shape, dtype=column.dtype if column.dtype != "str" else "U1"))


def timed(label: str, work) -> float:
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    print(f"{label:48}{seconds:9.2f} s")
    return seconds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--dataset", default="vggsound")
    options.add_argument("--workers", type=int, default=2)
    chosen = options.parse_args()
    logging.getLogger("luigi-interface").setLevel(logging.ERROR)
    console.started = console.done = lambda *_: None
    for name in ("BuildManifest", "AcquireVideos", "FetchWeights", "DecodeVideos", "ExtractFeatures", "PoolFeatures",
                 "EmbedLabels", "CurateSplit", "BuildBenchmark", "TrainStage1", "TrainStage2", "Evaluate", "Report"):
        luigi.task_register.Register.get_task_cls(name).build = empty
    with tempfile.TemporaryDirectory() as folder:
        get_config().set("paths", "root", str(Path(folder) / "data"))
        get_config().set("weights", "source", "generated")

        def root():
            base.forget()
            return RunBenchmark(dataset=chosen.dataset, feature_set=FEATURE_SETS, methods="all", seeds="0")

        def run(workers):
            assert luigi.build([root()], local_scheduler=True, workers=workers, no_lock=True)

        count = len(operate.graph(root()))
        print(f"{count} tasks, {dataset_named(chosen.dataset).shards(None)} shards a stage")
        figures = {"tasks": count, "workers": chosen.workers}
        figures["instantiate_s"] = timed("make all tasks and their digests", lambda: operate.graph(root()))
        figures["check_s"] = timed("find all incomplete", lambda: [t.complete() for t in operate.graph(root())])
        scheduler = luigi.scheduler.Scheduler()
        worker = luigi.worker.Worker(scheduler=scheduler)
        figures["schedule_s"] = timed("let luigi schedule them", lambda: worker.add(root()))
        figures["run_s"] = timed(f"run them, {chosen.workers} workers, empty artefacts", lambda: run(chosen.workers))
        figures["per_task_ms"] = 1000 * figures["run_s"] / count
        figures["rerun_s"] = timed("run again, nothing to do", lambda: run(chosen.workers))
        words = [sys.executable, "-m", "tasks", "status", "RunBenchmark", *WORDS, "--dataset", chosen.dataset,
                 "--paths-root", f"{folder}/data", "--weights-source", "generated"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)  # the first one reads the files from disk
        figures["status_s"] = timed("status, the whole command", lambda: subprocess.run(words, check=True,
                                                                                  stdout=subprocess.DEVNULL))
        figures["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{figures['per_task_ms']:.1f} ms per task; {figures['memory_mb']:.0f} MB of memory, scheduler included")
    print(json.dumps({key: round(value, 3) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
