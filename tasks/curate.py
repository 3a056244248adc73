"""EmbedLabels, CurateSplit and BuildBenchmark: what training is about."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import luigi

from extractors import registry
from pipeline import audit, benchmark, labels, published_export, published_layout, schemas, splits
from pipeline.datasets import dataset_named
from pipeline.errors import SettingsError
from pipeline.h5 import Output
from pipeline.tables import identity
from tasks import config
from tasks.acquire import AcquireVideos, BuildManifest, look
from tasks.base import ArtefactTask
from tasks.features import ExportTask, FeatureTask, PoolFeatures


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
        """A split that is made here leaves out clips without sound, hence asks what was acquired."""
        above: dict[str, ArtefactTask] = {"manifest": BuildManifest(dataset=self.dataset)}
        if splits.kind_of(self.dataset, config.settings("split")) == "curated":
            above["acquired"] = AcquireVideos(dataset=self.dataset)
        return above

    def settings(self) -> dict[str, Any]:
        pretraining, aliases = registry.pretraining(self.feature_set), identity(self.aliases(), "[labels] aliases")
        return {"split": config.content(config.settings("split")), "pretraining": pretraining, "aliases": aliases}

    def aliases(self) -> str:
        """-> the texts that classes are compared by, which only a split that is made here does."""
        return config.settings("labels").aliases if "acquired" in self.inputs() else ""

    def build(self, output: Output) -> None:
        paths = {name: task.path() for name, task in self.inputs().items()}
        pretraining, settings = registry.pretraining(self.feature_set), config.settings("split")
        splits.build(
            paths["manifest"], self.dataset, pretraining, settings, self.published, output, paths.get("acquired"),
            self.aliases(),
        )


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


class ImportFeatures(FeatureTask):
    """A benchmark from features in the layout of the released code, however they were made."""

    # "from" is no name that Python lets a class give an attribute in the usual way.
    locals()["from"] = luigi.Parameter(default="", description="folder that holds features/ and class-split/")
    schema = schemas.BENCHMARK
    folder = "benchmark"
    stages = ("benchmark",)

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> None:
        super().normalise(values)
        place = Path(values["from"] or config.settings("paths").features).expanduser().resolve()
        if not (place / "features").is_dir():
            raise SettingsError(f"--from {values['from'] or '(nothing)'}: expected a folder that holds features/")
        values["from"] = str(place)

    def place(self) -> Path:
        return Path(getattr(self, "from"))

    def name(self) -> str:
        return f"{self.feature_set}-imported"

    def input_ids(self) -> dict[str, str]:
        return {"files": look((self.task_id,), lambda: published_layout.fingerprint(self.place()))}

    def build(self, output: Output) -> None:
        published_layout.import_features(self.place(), self.feature_set, self.published, output)


def benchmark_task(task: FeatureTask) -> FeatureTask:
    """-> the task whose artefact methods train on: imported features where [paths] features names some."""
    kind = ImportFeatures if config.settings("paths").features else BuildBenchmark
    return kind(**task.shared())


class ExportFeatures(ExportTask):
    """Features in the layout of the released code, for it and its descendants to train on."""

    schema = schemas.BENCHMARK
    stages = ("decode", "extract", "split", "benchmark")

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"benchmark": benchmark_task(self)}

    def path(self) -> Path:
        return published_layout.feature_folder(Path(self.to), self.feature_set) / published_export.MADE_FROM

    def current(self, memo: dict[str, bool]) -> bool:
        """-> whether the folder holds what the benchmark is now; one that holds something else is not overwritten."""
        above = self.inputs()["benchmark"]
        return above.current(memo) and self.path().is_file() and self.path().read_text() == above.content_id()

    def run(self) -> None:
        published_export.export_features(self.input_path("benchmark"), Path(self.to), self.feature_set, self.dataset)


class AuditSplit(FeatureTask):
    """What there is to know about a split: counts against the paper, overlaps, leakage, coverage; HTML and CSV."""

    coverage = luigi.BoolParameter(default=False, description="also look at which videos are there, and get them")
    schema = schemas.AUDIT
    folder = "audit"
    stages = ("split",)

    def inputs(self) -> dict[str, ArtefactTask]:
        """Videos only if asked for, or if the split needs them anyway: a released one can be audited without."""
        split = CurateSplit(**self.shared())
        above = {"manifest": BuildManifest(dataset=self.dataset), "labels": EmbedLabels(dataset=self.dataset)}
        videos = {"acquired": AcquireVideos(dataset=self.dataset)} if self.coverage else {}
        return {**split.inputs(), **above, **videos, "split": split}

    def build(self, output: Output) -> None:
        paths = {name: task.path() for name, task in self.inputs().items()}
        audit.audit(
            paths["manifest"], paths["labels"], paths["split"], paths.get("acquired"), self.dataset, output
        )
