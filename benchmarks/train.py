"""How fast the methods train: ``python benchmarks/train.py [--methods avca,ale] [--protocol reference] [--threads 1]``.

Per method, on features of the datasets' sizes: milliseconds per step and per evaluation, the arithmetic floor of a step
(its matrix FLOPs over the rate at which this machine multiplies matrices, measured between the steps), their ratio,
and how long a full two-stage run takes (two times 50 epochs; stage 2 at most as long as stage 1).

Times are the best of several rounds, matrix rates too: other load on the machine makes both worse, at other moments.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model import metrics, registry
from model.embedding import EmbeddingMethod, resolve_device
from model.protocol import WIDTHS, Benchmark, evaluation_space
from model.settings import Spec, TrainingSettings
from model.stages import create, fit, stage_1
from model.training import Run, arithmetic, evaluate
from pipeline import deviations
from pipeline.progress import duration

# train, val_seen, val_unseen, test_seen, test_unseen videos and train, val_unseen, test_unseen classes (table 1)
TABLE_1 = {
    "ucf": ((3174, 353, 1467, 555, 1267), (30, 12, 9)),
    "activitynet": ((9204, 1023, 4307, 1615, 4199), (99, 51, 50)),
    "vggsound": ((70351, 7817, 3102, 9032, 3450), (138, 69, 69)),
}
SUBSETS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")
ROUNDS = 5
STEPS = 8


@dataclass(frozen=True)
class Timing:
    """Seconds of a step (0: not told apart) and of an evaluation on validation videos; FLOPs of a step (0: unknown)."""

    step_s: float
    evaluation_s: float
    flops: float


def made_up(dataset: str, feature_set: str) -> Benchmark:
    """-> a benchmark of the dataset's size: random non-negative features and unit class vectors."""
    videos, classes = TABLE_1[dataset]
    random = np.random.default_rng(0)
    roles = np.repeat(("train", "val_unseen", "test_unseen"), classes)
    of_subset = {"train": (0, classes[0]), "val_seen": (0, classes[0]), "val_unseen": (classes[0], sum(classes[:2])),
                 "test_seen": (0, sum(classes[:2])), "test_unseen": (sum(classes[:2]), sum(classes))}
    subset = np.repeat(SUBSETS, videos)
    label = np.concatenate([np.resize(np.arange(*of_subset[name]), count)
                            for name, count in zip(SUBSETS, videos, strict=True)])
    vectors = random.standard_normal((len(roles), 300), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    audio, video = WIDTHS[feature_set]

    def features(width: int) -> np.ndarray:
        values = random.standard_normal((len(label), width), dtype=np.float32)
        return np.maximum(values, 0, out=values)

    return Benchmark(np.array([f"{k:03d}" for k in range(len(roles))]), roles, vectors,
                     np.array([f"{k:06d}" for k in range(len(label))]), label.astype(np.int64), subset,
                     features(audio), features(video))


def matrix_rate(device: torch.device) -> float:
    """-> FLOP/s of products of 1024 x 1024 float32 matrices, now."""
    a, b = (torch.randn(1024, 1024, device=device) for _ in range(2))
    count = 4 if device.type == "cpu" else 200
    return 2 * 1024**3 * count / timed(lambda: [a @ b for _ in range(count)], device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def embedding_timing(benchmark: Benchmark, spec: Spec, published: frozenset[str]) -> tuple[Timing, float]:
    """-> timing and the best matrix rate seen meanwhile. A step is the mean over an epoch of 500."""
    device = resolve_device(spec.device)
    method = create(spec, published)
    assert isinstance(method, EmbeddingMethod)
    torch.manual_seed(0)
    run = Run(method, benchmark, stage_1(benchmark, spec), torch.Generator().manual_seed(0), None, device)
    model, trainer = run.trainer.model, run.trainer
    step = trainer.replay if device.type == "cuda" else trainer.step
    index = run.sampler.epoch(STEPS, spec.batch_size, run.generator, model.negatives).to(device)
    passes = trainer.statistics_steps if "batchnorm_passes" in published else 0
    with_passes = min(passes / spec.batches_per_epoch, 1.0)
    seconds, flops, rate = {}, {}, 0.0
    for matter in (True, False):
        model.train()
        model.statistics_matter = matter
        with FlopCounterMode(display=False) as counter:
            trainer.step(index[0])
        flops[matter] = counter.get_total_flops()
        step(index[0])
        best = float("inf")
        for _ in range(ROUNDS):
            rate = max(rate, matrix_rate(device))
            best = min(best, timed(lambda: [step(row) for row in index], device) / STEPS)
        seconds[matter] = best
    share = {True: with_passes, False: 1 - with_passes}
    standard = (model.outputs[0],)
    space = run.stage.validation
    evaluation = min(
        timed(lambda: evaluate(model, benchmark, run.features, space, device, standard), device) for _ in range(3)
    )
    mean = Timing(*(sum(share[k] * values[k] for k in share) for values in (seconds,)), evaluation,
                  sum(share[k] * flops[k] for k in share))
    return mean, rate


def own_training_timing(benchmark: Benchmark, spec: Spec, published: frozenset[str]) -> Timing:
    """A method with a trainer of its own: the difference between a short and a longer epoch.

    Where an epoch is one batch whatever its length, no step can be told apart: it counts with the evaluation.
    """
    device = resolve_device(spec.device)
    took = {}
    for batches in (5, 25):
        short = replace(spec, epochs=1, batches_per_epoch=batches)
        stage = stage_1(benchmark, short)
        took[batches] = timed(lambda s=short, g=stage: fit(benchmark, g, s, published, None), device)  # type: ignore[misc]
    if "fvaegan_batches" in published:
        return Timing(0.0, min(took.values()), 0.0)
    step = max(took[25] - took[5], 0.0) / 20
    return Timing(step, took[5] - 5 * step, 0.0)


def test_evaluation_s(benchmark: Benchmark, device: torch.device) -> float:
    """-> seconds from embeddings to all scores of the test videos at 16 betas."""
    space = evaluation_space(benchmark)
    random = torch.Generator().manual_seed(0)
    videos = torch.rand(len(space.rows), 64, generator=random).to(device)
    classes = torch.rand(len(space.classes), 64, generator=random).to(device)
    targets = benchmark.class_index[space.rows]
    return min(timed(lambda: metrics.evaluate(torch.cdist(videos, classes).cpu().numpy(), targets, space.seen,
                                              space.unseen), device) for _ in range(5))


def full_run_s(timing: Timing, spec: Spec) -> float:
    """-> seconds of two stages of all epochs; stage 2 is counted as long as stage 1, its upper bound."""
    return 2 * spec.epochs * (spec.batches_per_epoch * timing.step_s + timing.evaluation_s)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(registry.MAIN_METHODS))
    parser.add_argument("--datasets", default=",".join(TABLE_1))
    parser.add_argument("--feature-set", default="selavi", choices=list(WIDTHS))
    parser.add_argument("--protocol", default="reference", choices=deviations.PROTOCOLS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    device = resolve_device(chosen.device)
    published = deviations.resolve(chosen.protocol)
    settings = TrainingSettings(device=chosen.device, threads=chosen.threads)
    print(f"{device}, {chosen.threads} CPU threads, {chosen.feature_set}, protocol {chosen.protocol}")
    print("| dataset | method | batch | step ms | floor ms | ratio | evaluation ms | full run |")
    print("|---|---|---|---|---|---|---|---|")
    total = 0.0
    with arithmetic(chosen.threads):
        for dataset in chosen.datasets.split(","):
            benchmark = made_up(dataset, chosen.feature_set)
            for method in chosen.methods.split(","):
                spec = registry.specification(method, dataset, chosen.feature_set, 0, settings)
                if isinstance(create(spec, published), EmbeddingMethod):
                    timing, rate = embedding_timing(benchmark, spec, published)
                    floor = f"{1e3 * timing.flops / rate:.2f} | {timing.step_s * rate / timing.flops:.2f}"
                else:
                    timing, floor = own_training_timing(benchmark, spec, published), "- | -"
                seconds = full_run_s(timing, spec)
                total += seconds
                step = f"{1e3 * timing.step_s:.2f}" if timing.step_s else "-"
                print(f"| {dataset} | {method} | {spec.batch_size} | {step} | {floor} | "
                      f"{1e3 * timing.evaluation_s:.1f} | {duration(seconds)} |", flush=True)
            print(f"{dataset}: test scores from embeddings in {1e3 * test_evaluation_s(benchmark, device):.2f} ms")
    print(f"matrix rate {matrix_rate(device) / 1e9:.0f} GFLOP/s; all of it, one run after the other: {duration(total)}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
