"""The datasets, by name."""

from __future__ import annotations

from difflib import get_close_matches

from pipeline.datasets.activitynet import ACTIVITYNET
from pipeline.datasets.base import Dataset, Source, Video
from pipeline.datasets.demo import DEMO
from pipeline.datasets.folder import FOLDER
from pipeline.datasets.ucf import UCF
from pipeline.datasets.vggsound import VGGSOUND
from pipeline.errors import SettingsError

__all__ = ["DATASETS", "Dataset", "Source", "Video", "dataset_named"]

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (DEMO, FOLDER, UCF, ACTIVITYNET, VGGSOUND)}


def dataset_named(name: str) -> Dataset:
    """-> the declaration of a dataset. Raises SettingsError for an unknown name."""
    if name not in DATASETS:
        near = get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {near[0]!r}?" if near else "check --dataset"
        raise SettingsError(f"dataset {name!r} is unknown; expected one of {', '.join(DATASETS)}: {hint}")
    return DATASETS[name]
