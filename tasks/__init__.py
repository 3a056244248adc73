"""The Luigi tasks, in flow order. ``luigi --module tasks <Task>`` finds them here."""

import sys

from tasks import config, console
from tasks.acquire import AcquireVideos, BuildManifest
from tasks.checkpoints import EvaluateCheckpoint, ExportCheckpoint
from tasks.curate import AuditSplit, BuildBenchmark, CurateSplit, EmbedLabels, ExportFeatures, ImportFeatures
from tasks.features import DecodeVideos, ExtractFeatures, FetchWeights, PoolFeatures
from tasks.results import Report, RunBenchmark
from tasks.training import Evaluate, TrainStage1, TrainStage2

config.sections()  # so that every setting is an option of the command line
config.follow_named_scheduler(sys.argv[1:])
console.set_up()
console.tell_at_the_end()

__all__ = [
    "AcquireVideos",
    "AuditSplit",
    "BuildBenchmark",
    "BuildManifest",
    "CurateSplit",
    "DecodeVideos",
    "EmbedLabels",
    "Evaluate",
    "EvaluateCheckpoint",
    "ExportCheckpoint",
    "ExportFeatures",
    "ExtractFeatures",
    "FetchWeights",
    "ImportFeatures",
    "PoolFeatures",
    "Report",
    "RunBenchmark",
    "TrainStage1",
    "TrainStage2",
]
