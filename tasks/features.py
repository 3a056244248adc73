"""DecodeVideos, ExtractFeatures and PoolFeatures: from video files to one feature pair per video."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import luigi

from extractors import registry
from pipeline import decoding, deviations, media, pooling, schemas
from pipeline.datasets import dataset_named
from pipeline.errors import SettingsError
from pipeline.h5 import Output
from tasks import config, devices
from tasks.acquire import AcquireVideos, look
from tasks.base import ArtefactTask


class FeatureTask(ArtefactTask):
    """A task about one feature set under one protocol."""

    feature_set = luigi.Parameter(default="selavi", description="selavi or c3d_vggish")
    protocol = luigi.Parameter(default="auto", description="reference, corrected or auto: the dataset's own")
    deviations = luigi.Parameter(default="", description="name=published or name=corrected, separated by commas")
    stages: ClassVar[tuple[str, ...]] = ("decode", "extract")

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> None:
        registry.feature_set_named(values["feature_set"])
        cls.normalise_protocol(values)

    @classmethod
    def normalise_protocol(cls, values: dict[str, Any]) -> None:
        """Reduce protocol and deviations to what matters to this artefact."""
        dataset = dataset_named(values["dataset"])
        protocol = values["protocol"] if values["protocol"] != "auto" else dataset.protocols[0]
        if protocol in deviations.PROTOCOLS and protocol not in dataset.protocols:
            raise SettingsError(
                f"dataset {dataset.name!r}: found protocol {protocol!r}, expected {' or '.join(dataset.protocols)}"
            )
        overrides = [item.strip() for item in values["deviations"].split(",") if item.strip()]
        published = deviations.resolve(protocol, overrides)
        names = cls.relevant_deviations(values["feature_set"], values.get("method", ""))
        values["protocol"], values["deviations"] = deviations.canonical(published, names, dataset.protocols)

    @classmethod
    def relevant_deviations(cls, feature_set: str, method: str) -> frozenset[str]:
        """-> names of those that can change this artefact; of any feature set or method where it is empty."""
        parts = registry.subjects(feature_set) if feature_set else None
        return deviations.relevant(cls.stages, parts, method)

    @property
    def published(self) -> frozenset[str]:
        """Names of the deviations that follow the published code, of those that matter here."""
        overrides = self.deviations.split(",") if self.deviations else ()
        names = self.relevant_deviations(self.feature_set, getattr(self, "method", ""))
        return deviations.resolve(self.protocol, overrides) & names

    def shared(self) -> dict[str, Any]:
        """-> parameters to hand to the tasks above."""
        names = ("dataset", "feature_set", "protocol", "deviations")
        return {name: getattr(self, name) for name in names}

    def shards(self) -> int:
        settings = config.dataset_settings(self.dataset)
        return look(("shards", self.dataset, settings), lambda: dataset_named(self.dataset).shards(settings))

    def name(self) -> str:
        return self.feature_set


class ExportTask(FeatureTask):
    """A task that writes files for other programs, to a folder of the user's instead of the artefacts'."""

    to = luigi.Parameter(default="", description="folder to write to")
    folder = "export"

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> None:
        super().normalise(values)
        if not values["to"]:
            raise SettingsError(f"{cls.__name__}: --to is empty, expected a folder to write to")
        values["to"] = str(Path(values["to"]).expanduser().resolve())

    def output(self):
        return luigi.LocalTarget(str(self.path()))


class FetchWeights(FeatureTask):
    """The networks' weights, fetched, verified and loaded once before any decoding starts, not hours later."""

    schema = schemas.WEIGHTS
    folder = "weights"
    stages = ("extract",)

    def settings(self) -> dict[str, Any]:
        weights = config.settings("weights")
        return registry.weights_identity(self.feature_set, weights, self.published, self.dataset)

    def build(self, output: Output) -> None:
        from extractors import weights

        loaded = weights.check(self.feature_set, config.settings("weights"), self.published, self.dataset)
        with output.create() as file:
            for column in ("name", "sha256", "source", "licence"):
                file.write(column, [loaded[slot].get(column, "") for slot in sorted(loaded)])
            file.write("slot", sorted(loaded))


class ShardTask(FeatureTask):
    """One bucket of the dataset's videos."""

    shard = luigi.IntParameter(default=0, description="0 to the number of shards - 1")

    def name(self) -> str:
        return f"{self.feature_set}-{self.shard:03d}-of-{self.shards():03d}"

    def acquired(self) -> AcquireVideos:
        return AcquireVideos(dataset=self.dataset)


class DecodeVideos(ShardTask):
    """The frames and sound of one shard, cut into what the extractors take. Large and, unless kept, short-lived."""

    # It is made for one ExtractFeatures, which removes it: hence also what changes only the features.
    schema = schemas.DECODED
    folder = "decoded"
    stages = ("decode", "extract")

    def inputs(self) -> dict[str, ArtefactTask]:
        return {"acquired": self.acquired()}

    def input_ids(self) -> dict[str, str]:
        return {"acquired": self.acquired().shard_content(self.shard)}

    def requires(self):
        """The shard ``ahead`` places before this one comes first, so that few decoded shards exist at a time."""
        settings = config.settings("decoding")
        earlier = self.shard - settings.ahead
        first = [*super().requires(), FetchWeights(**self.shared())]
        if settings.keep or earlier < 0:
            return first
        return [*first, ExtractFeatures(**{**self.shared(), "shard": earlier})]

    def settings(self) -> dict[str, Any]:
        return {
            "plans": registry.plans(self.feature_set, self.published, self.dataset),
            "decoding": config.content(config.settings("decoding")),
            "decoders": media.decoder_versions(),
        }

    def current(self, memo: dict[str, bool]) -> bool:
        """A shard that is not kept is needed only until the features made from it are there."""
        if super().current(memo):
            return True
        reader = ExtractFeatures(**self.shared(), shard=self.shard)
        return not config.settings("decoding").keep and reader.current(memo)

    def build(self, output: Output) -> None:
        plans = registry.plans(self.feature_set, self.published, self.dataset)
        pair, settings = (plans["video"], plans["audio"]), config.settings("decoding")
        decoding.decode_shard(self.input_path("acquired"), self.shard, pair, settings, self.published, output)


class ExtractFeatures(ShardTask):
    """Features of every clip of one shard."""

    schema = schemas.CLIP_FEATURES
    folder = "clip_features"

    def decoded(self) -> DecodeVideos:
        return DecodeVideos(**self.shared(), shard=self.shard)

    def inputs(self) -> dict[str, ArtefactTask]:
        """The acquired videos: a decoded shard follows from them, and it may be gone by the time anyone asks."""
        return {"acquired": self.acquired(), "weights": FetchWeights(**self.shared())}

    def input_ids(self) -> dict[str, str]:
        weights = self.inputs()["weights"].content_id()
        return {"acquired": self.acquired().shard_content(self.shard), "weights": weights}

    def requires(self):
        return [self.decoded(), self.inputs()["weights"]]

    def settings(self) -> dict[str, Any]:
        """Those of the decoded shard in full, as it may be gone when somebody asks what has changed."""
        decoded = {"digest": self.decoded().digest, **self.decoded().settings()}
        return {"decoded": decoded, "extraction": config.content(config.settings("extraction"))}

    def process_resources(self) -> dict[str, int]:
        return devices.resources(config.settings("extraction").device, "gpu")

    def build(self, output: Output) -> None:
        from extractors import base

        settings = config.settings("extraction")
        with devices.slot(settings.device, whole=True) as device:
            settings = dataclasses.replace(settings, device=device)
            decoded = self.decoded().path()
            weights = config.settings("weights")
            base.extract(decoded, self.feature_set, weights, settings, self.published, self.dataset, output)

    def clean_up(self) -> None:
        if not config.settings("decoding").keep:
            self.decoded().output().remove()


class PoolFeatures(FeatureTask):
    """One feature pair per video: means over its clips."""

    schema = schemas.VIDEO_FEATURES
    folder = "video_features"

    def inputs(self) -> dict[str, ArtefactTask]:
        return {str(k): ExtractFeatures(**self.shared(), shard=k) for k in range(self.shards())}

    def build(self, output: Output) -> None:
        pooling.pool([task.path() for task in self.inputs().values()], output)

    def clean_up(self) -> None:
        """Decoded shards whose extraction was killed after its last byte and before it removed them."""
        for task in self.inputs().values():
            task.clean_up()
