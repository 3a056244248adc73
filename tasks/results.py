"""Report and RunBenchmark: tables, pictures and the one task that asks for all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import luigi

from extractors import registry as extractor_registry
from model import registry as method_registry
from pipeline import report, schemas
from pipeline.errors import SettingsError
from pipeline.h5 import Output
from tasks import config
from tasks.base import ArtefactTask
from tasks.features import FeatureTask
from tasks.training import Evaluate


def names(text: str) -> list[str]:
    """-> the parts of 'a, b', without repetitions, in their order."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


class ResultsTask(FeatureTask):
    """A task about several feature sets, methods and seeds: comma lists, or ``all``."""

    methods = luigi.Parameter(default="avca", description="comma list, 'all' (the paper's eight) or 'ablations'")
    seeds = luigi.Parameter(default="0", description="comma list of whole numbers")
    stages = ("decode", "extract", "split", "benchmark", "train")

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> None:
        every = ",".join(extractor_registry.FEATURE_SETS)
        feature_sets = names(every if values["feature_set"] == "all" else values["feature_set"])
        lists = {"all": method_registry.MAIN_METHODS, "ablations": method_registry.ABLATIONS}
        methods = [each for name in names(values["methods"]) for each in lists.get(name, (name,))]
        for name in methods:
            method_registry.check(name)
        for name in feature_sets:
            extractor_registry.feature_set_named(name)
        if not all(seed.isdigit() for seed in names(values["seeds"])):
            raise SettingsError(f"seeds: found {values['seeds']!r}, expected whole numbers separated by commas")
        if not (feature_sets and methods and names(values["seeds"])):
            raise SettingsError("feature_set, methods and seeds: expected at least one of each")
        values["methods"], values["seeds"] = ",".join(dict.fromkeys(methods)), ",".join(names(values["seeds"]))
        values["feature_set"] = ""
        cls.normalise_protocol(values)
        values["feature_set"] = ",".join(feature_sets)

    def evaluations(self) -> list[Evaluate]:
        shared = self.shared()
        return [
            Evaluate(**{**shared, "feature_set": feature_set}, method=method, seed=int(seed))
            for feature_set in names(self.feature_set)
            for method in names(self.methods)
            for seed in names(self.seeds)
        ]

    def name(self) -> str:
        return f"{self.feature_set}-{self.methods}".replace(",", "+")[:100]


class Report(ResultsTask):
    """Tables and an HTML page over all evaluations."""

    schema = schemas.REPORT
    folder = "report"

    def inputs(self) -> dict[str, ArtefactTask]:
        return {f"{e.feature_set}-{e.method}-{e.seed}": e for e in self.evaluations()}

    def settings(self) -> dict[str, Any]:
        return {"report": config.settings("report")}

    def page(self) -> Path:
        return self.path().with_suffix("") / "index.html"

    def lacking(self, facts: dict[str, Any]) -> str:
        """A report whose page was deleted is made again."""
        return "" if self.page().is_file() else f"{self.page()} is gone"

    def build(self, output: Output) -> None:
        entries = []
        for task in self.evaluations():
            above = task.inputs()
            split = above["benchmark"].inputs().get("split")
            entries.append(report.ReportEntry(
                benchmark=above["benchmark"].path(), stage1=above["stage1"].path(), stage2=above["stage2"].path(),
                scores=task.path(), split=split.path() if split else None,
                facts={**task.param_kwargs, "published": sorted(task.published)},
            ))
        report.build_report(entries, config.settings("report"), output)


class RunBenchmark(ResultsTask, luigi.WrapperTask):
    """The whole line, from videos to the report."""

    schema = schemas.REPORT
    folder = "report"
    videos = luigi.Parameter(default="", description="for dataset folder: the folder with one sub-folder per class")
    retry = luigi.Parameter(default="", description="failed videos to try again: transient, all or none")
    strict = luigi.BoolParameter(default=False, description="a test class without videos is an error")
    not_in_digest = ("digest", "shard", "videos", "retry", "strict")

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> None:
        """The options are settings of tasks further up, under a shorter name."""
        if values["videos"]:
            config.change("folder", "videos", str(Path(values["videos"]).expanduser().resolve()))
        if values["retry"]:
            config.change("acquire", "retry", values["retry"])
        if values["strict"]:
            config.change("training", "strict", "true")
        super().normalise(values)

    def report(self) -> Report:
        return Report(**self.shared(), methods=self.methods, seeds=self.seeds)

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"report": self.report()}

    def complete(self) -> bool:
        return self.report().complete()

    def output(self):
        return []

    def run(self) -> None:
        """Nothing to do: the report is what was asked for."""
