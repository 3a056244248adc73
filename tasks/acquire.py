"""BuildManifest and AcquireVideos: what a dataset consists of, and which of its videos are here."""

from __future__ import annotations

from typing import Any

from pipeline import acquire, manifest, schemas
from pipeline.h5 import Output
from tasks import config
from tasks.base import ArtefactTask


class BuildManifest(ArtefactTask):
    """Video list and classes. Never depends on what could be downloaded."""

    schema = schemas.MANIFEST
    folder = "manifest"

    def settings(self) -> dict[str, Any]:
        return {"dataset": config.dataset_settings(self.dataset)}

    def input_ids(self) -> dict[str, str]:
        return {"source": manifest.fingerprint(self.dataset, config.dataset_settings(self.dataset))}

    def build(self, output: Output) -> None:
        manifest.build(self.dataset, config.dataset_settings(self.dataset), output)


class AcquireVideos(ArtefactTask):
    """A snapshot of which videos are on this machine, with checksums and what their headers say."""

    schema = schemas.ACQUIRED
    folder = "acquired"

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"manifest": BuildManifest(dataset=self.dataset)}

    def input_ids(self) -> dict[str, str]:
        source = manifest.fingerprint(self.dataset, config.dataset_settings(self.dataset))
        return {**super().input_ids(), "source": source}

    def build(self, output: Output) -> None:
        acquire.acquire(self.input_path("manifest"), self.dataset, config.settings("acquire"), output)

    def shard_content(self, shard: int) -> str:
        """-> content id of what decoding one shard depends on."""
        return str(self.output().column("shard_content", self.schema)[shard])
