"""BuildManifest and AcquireVideos: what a dataset consists of, and which of its videos are here."""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipeline import acquire, manifest, schemas
from pipeline.datasets import dataset_named
from pipeline.h5 import Output
from tasks import config
from tasks.base import ArtefactTask

Found = TypeVar("Found")

# A look at folders and ledgers serves for this long: Luigi asks every task for completeness, one after the other.
LOOK_S = 20.0
# Or for so many times what it took: folders on a network may take minutes.
LOOK_TIMES = 20.0
_looks: dict[tuple, tuple[float, Any]] = {}  # key -> until when it serves, what was found


def look(key: tuple, find: Callable[[], Found]) -> Found:
    """-> what ``find`` gave for ``key`` not long ago, or gives now."""
    started = time.monotonic()
    if key not in _looks or started > _looks[key][0]:
        found = find()
        ended = time.monotonic()
        _looks[key] = (ended + max(LOOK_S, LOOK_TIMES * (ended - started)), found)
    return _looks[key][1]


def of_this_run(facts: dict[str, Any]) -> bool:
    """-> whether the artefact with these facts was made since this run began.

    Such a one is what all processes of the run go by, even if files have arrived since: the next run looks again.
    """
    started = time.strptime(facts["provenance"]["started_utc"], "%Y-%m-%dT%H:%M:%SZ")
    return calendar.timegm(started) >= int(acquire.RUN_STARTED)


class BuildManifest(ArtefactTask):
    """Video list and classes. Never depends on what could be downloaded."""

    schema = schemas.MANIFEST
    folder = "manifest"

    def settings(self) -> dict[str, Any]:
        return {"dataset": config.dataset_settings(self.dataset)}

    def input_ids(self) -> dict[str, str]:
        return {"source": self.source()}

    def source(self) -> str:
        """-> text that changes with the files that a local dataset consists of."""
        facts = self.output().facts()
        if facts and of_this_run(facts):
            return facts["inputs"]["source"]
        settings = config.dataset_settings(self.dataset)
        return look((self.task_id,), lambda: manifest.fingerprint(self.dataset, settings))

    def build(self, output: Output) -> None:
        manifest.build(self.dataset, config.dataset_settings(self.dataset), output)


class AcquireVideos(ArtefactTask):
    """A snapshot of which videos are on this machine, with checksums and what their headers say."""

    schema = schemas.ACQUIRED
    folder = "acquired"

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> None:
        super().normalise(values)
        config.settings("acquire")  # they are in no digest: impossible ones have to end the command here

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"manifest": BuildManifest(dataset=self.dataset)}

    def input_ids(self) -> dict[str, str]:
        source = BuildManifest(dataset=self.dataset).source()
        return {**super().input_ids(), "source": source, "here": self.here()}

    def here(self) -> str:
        """-> text that changes with what there is to be had."""
        facts = self.output().facts()
        if facts and of_this_run(facts):
            return facts["inputs"]["here"]
        settings, store = config.settings("acquire"), self.path().parent
        return look((self.task_id, settings), lambda: acquire.fingerprint(self.dataset, settings, store))

    def process_resources(self) -> dict[str, int]:
        """One task at a time fetches from a host, whatever the number of workers and machines of one scheduler."""
        settings = config.settings("acquire")
        remote = [s for s in dataset_named(self.dataset).sources if s.kind != "page" and settings.download]
        archives = {urlsplit(source.url).hostname for source in remote if source.kind == "archive"}
        hosts = archives or {urlsplit(settings.video_url).hostname for _ in remote}
        return {f"host {host}": 1 for host in hosts}

    def build(self, output: Output) -> None:
        acquire.acquire(self.input_path("manifest"), self.dataset, config.settings("acquire"), output)

    def shard_content(self, shard: int) -> str:
        """-> content id of what decoding one shard depends on; empty where that can't be read."""
        column = self.output().column("shard_content", self.schema)
        return "" if column is None else str(column[shard])
