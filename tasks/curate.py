"""EmbedLabels, CurateSplit and BuildBenchmark: what training is about."""

from __future__ import annotations

import functools
from typing import Any

from pipeline import audit, benchmark, labels, schemas, splits
from pipeline.datasets import dataset_named
from pipeline.h5 import Output
from tasks import config
from tasks.acquire import AcquireVideos, BuildManifest
from tasks.base import ArtefactTask
from tasks.features import FeatureTask, PoolFeatures


class EmbedLabels(ArtefactTask):
    """One vector per class, from the words of its name."""

    schema = schemas.LABELS
    folder = "labels"

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"manifest": BuildManifest(dataset=self.dataset)}

    def settings(self) -> dict[str, Any]:
        return {"labels": config.content(config.settings("labels")), "dataset": config.dataset_settings(self.dataset)}

    def build(self, output: Output) -> None:
        make = dataset_named(self.dataset).word_vectors
        own = functools.partial(make, config.dataset_settings(self.dataset)) if make else None
        labels.embed(self.input_path("manifest"), self.dataset, config.settings("labels"), output, own)


class CurateSplit(FeatureTask):
    """Roles of classes and subsets of videos. No class that a feature set was pre-trained on is unseen for it."""

    schema = schemas.SPLIT
    folder = "split"
    stages = ("split",)

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"manifest": BuildManifest(dataset=self.dataset)}

    def settings(self) -> dict[str, Any]:
        return {"split": config.content(config.settings("split"))}

    def build(self, output: Output) -> None:
        manifest = self.input_path("manifest")
        splits.build(manifest, self.dataset, self.feature_set, config.settings("split"), self.published, output)


class BuildBenchmark(FeatureTask):
    """Everything that training needs, in one file."""

    schema = schemas.BENCHMARK
    folder = "benchmark"
    stages = ("decode", "extract", "split", "benchmark")

    def inputs(self) -> dict[str, ArtefactTask]:
        return {
            "manifest": BuildManifest(dataset=self.dataset),
            "features": PoolFeatures(**self.shared()),
            "labels": EmbedLabels(dataset=self.dataset),
            "split": CurateSplit(**self.shared()),
        }

    def build(self, output: Output) -> None:
        path = self.input_path
        benchmark.build(
            path("features"), path("labels"), path("split"), path("manifest"), self.published, output
        )


class AuditSplit(FeatureTask):
    """What there is to know about a split: counts against the paper, overlaps, leakage, coverage; HTML and CSV."""

    schema = schemas.AUDIT
    folder = "audit"
    stages = ("split",)

    def inputs(self) -> dict[str, ArtefactTask]:
        return {
            "manifest": BuildManifest(dataset=self.dataset),
            "labels": EmbedLabels(dataset=self.dataset),
            "split": CurateSplit(**self.shared()),
            "acquired": AcquireVideos(dataset=self.dataset),
        }

    def build(self, output: Output) -> None:
        path = self.input_path
        audit.audit(path("manifest"), path("labels"), path("split"), path("acquired"), self.dataset, output)
