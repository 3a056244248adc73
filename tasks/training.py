"""TrainStage1, TrainStage2 and Evaluate: the two-stage protocol of one method with one seed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi

from model import registry
from model.settings import Spec
from pipeline import schemas
from pipeline.h5 import Output
from tasks import config, devices
from tasks.base import ArtefactTask
from tasks.curate import benchmark_task
from tasks.features import FeatureTask


class MethodTask(FeatureTask):
    """A task about one method, trained with one seed."""

    method = luigi.Parameter(default="avca", description="a method or ablation of model/registry.py")
    seed = luigi.IntParameter(default=0, description="of initial weights, batches and dropout")
    stages = ("decode", "extract", "split", "benchmark", "train")

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> None:
        registry.check(values["method"])
        super().normalise(values)

    def trained(self) -> dict[str, Any]:
        return {**self.shared(), "method": self.method, "seed": self.seed}

    def benchmark(self) -> FeatureTask:
        return benchmark_task(self)

    def spec(self) -> Spec:
        chosen = config.settings("training")
        return registry.specification(self.method, self.dataset, self.feature_set, self.seed, chosen)

    def settings(self) -> dict[str, Any]:
        return {"spec": config.content(self.spec())}

    def process_resources(self) -> dict[str, int]:
        return devices.resources(config.settings("training").device, "gpu_training")

    def name(self) -> str:
        return f"{self.feature_set}-{self.method}-seed{self.seed}"

    @contextlib.contextmanager
    def placed(self) -> Iterator[Spec]:
        """Yield the specification with the device that this task holds."""
        spec = self.spec()
        with devices.slot(spec.device, whole=False) as device:
            yield dataclasses.replace(spec, device=device)

    def checkpoint(self) -> Path:
        return self.path().with_suffix(".checkpoint")


class TrainStage1(MethodTask):
    """Trains on the training subset and picks the epoch and the calibration on the validation subsets."""

    schema = schemas.STAGE1
    folder = "stage1"

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"benchmark": self.benchmark()}

    def build(self, output: Output) -> None:
        from model import stages

        with self.placed() as spec:
            stages.train_stage1(self.input_path("benchmark"), spec, self.published, output, self.checkpoint())


class TrainStage2(MethodTask):
    """Trains anew on training and validation subsets, for as many epochs as stage 1 picked."""

    schema = schemas.STAGE2
    folder = "stage2"

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"benchmark": self.benchmark(), "stage1": TrainStage1(**self.trained())}

    def build(self, output: Output) -> None:
        from model import stages

        paths = (self.input_path("benchmark"), self.input_path("stage1"))
        with self.placed() as spec:
            stages.train_stage2(*paths, spec, self.published, output, self.checkpoint())


class Evaluate(MethodTask):
    """Scores on the test subsets, with the calibration from validation."""

    schema = schemas.SCORES
    folder = "scores"

    def inputs(self) -> dict[str, ArtefactTask]:
        trained = self.trained()
        return {"benchmark": self.benchmark(), "stage1": TrainStage1(**trained), "stage2": TrainStage2(**trained)}

    def lacking(self, facts: dict[str, Any]) -> str:
        """Scores that leave out a class are not enough under ``strict``: the evaluation has to stop there."""
        left_out = facts.get("empty_classes") if config.settings("training").strict else None
        return f"strict: the scores leave out classes without test videos: {', '.join(left_out)}" if left_out else ""

    def build(self, output: Output) -> None:
        from model import evaluation

        benchmark, stage1, stage2 = (self.input_path(name) for name in ("benchmark", "stage1", "stage2"))
        with self.placed() as spec:
            evaluation.evaluate(benchmark, stage1, stage2, spec, self.published, output)
