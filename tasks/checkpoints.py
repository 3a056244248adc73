"""EvaluateCheckpoint and ExportCheckpoint: models trained by the released code, and ours for it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import luigi

from pipeline import schemas
from pipeline.errors import SettingsError
from pipeline.h5 import Output, read
from pipeline.storage import file_sha256
from tasks.acquire import look
from tasks.base import ArtefactTask
from tasks.features import ExportTask
from tasks.training import MethodTask, TrainStage1, TrainStage2


class EvaluateCheckpoint(MethodTask):
    """Scores of a released pair of checkpoints, to compare with others (``python -m tasks compare``)."""

    stage1 = luigi.Parameter(default="", description="the first stage's *_score.pt, which calibrates")
    stage2 = luigi.Parameter(default="", description="the second stage's *_score.pt, which predicts")
    schema = schemas.SCORES
    folder = "scores"

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> None:
        super().normalise(values)
        for name in ("stage1", "stage2"):
            path = Path(values[name]).expanduser().resolve()
            if not path.is_file():
                raise SettingsError(f"--{name} {values[name] or '(nothing)'}: expected a released *_score.pt")
            values[name] = str(path)

    def name(self) -> str:
        return f"{self.feature_set}-{self.method}-checkpoint"

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"benchmark": self.benchmark()}

    def input_ids(self) -> dict[str, str]:
        files = {"stage1": self.stage1, "stage2": self.stage2}
        digests = {
            name: look(("sha256", path), functools.partial(file_sha256, Path(path))) for name, path in files.items()
        }
        return {**super().input_ids(), **digests}

    def build(self, output: Output) -> None:
        from model import evaluation

        paths = (self.input_path("benchmark"), Path(self.stage1), Path(self.stage2))
        with self.placed() as spec:
            evaluation.evaluate_checkpoints(*paths, spec, self.published, output)


class ExportCheckpoint(ExportTask, MethodTask):
    """The models of both stages as the released code's ``*_score.pt``, for it to evaluate."""

    schema = schemas.STAGE2

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"stage1": TrainStage1(**self.trained()), "stage2": TrainStage2(**self.trained())}

    def path(self) -> Path:
        return self.file("stage2")

    def file(self, stage: str) -> Path:
        """-> named by the content too, so that one that is there need not be opened."""
        content = self.inputs()[stage].content_id()
        return Path(self.to) / f"{self.name()}-{stage}-{content[:8]}_score.pt"

    def current(self, memo: dict[str, bool]) -> bool:
        return all(task.current(memo) and self.file(stage).is_file() for stage, task in self.inputs().items())

    def run(self) -> None:
        from model import checkpoint, stages

        for stage, task in self.inputs().items():
            state = stages.read_state(task.path(), task.schema)
            with read(task.path(), task.schema) as file:
                epoch = file.attributes["chosen_epoch"]
            checkpoint.export_published(self.file(stage), self.spec(), state, epoch)
