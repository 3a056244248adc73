"""What an extractor is, how it computes, and the only loop over a decoded shard.

The loop is the same for all: consecutive clips, whatever video they belong to, in batches of fixed size.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from extractors import registry
from extractors.feeding import batches, to_host
from extractors.networks import flat
from extractors.settings import ExtractionSettings, WeightsSettings
from extractors.weights import Store
from pipeline import h5, schemas
from pipeline.errors import ArtefactError, PipelineError, SettingsError
from pipeline.progress import Progress

# Column of a decoded shard that holds the clips of each modality.
CLIPS = {"video": "video/frames", "audio": "audio/samples"}
# Attribute of a decoded shard that names the plan by which they were cut.
PLAN = {"video": "frame_plan", "audio": "sound_plan"}


class Extractor(nn.Module):
    """A network with what goes before and after it: clips in, one float32 row of ``registry`` width per clip out.

    A row depends on its own clip only. Subclasses set ``network`` in ``__init__(store, published, dataset)`` and define
    ``prepare``; ``finish`` where the network's output is not yet the feature. All three run on the clips' device.
    """

    network: nn.Module

    def prepare(self, clips: Tensor, valid: Tensor | None = None) -> Tensor:
        """Decoded clips (B, ...) and the number of real frames of each (B,), None: all -> input of the network."""
        raise NotImplementedError

    def finish(self, features: Tensor) -> Tensor:
        """Output of the network -> features (B, width) float32."""
        return features.to(torch.float32)

    def forward(self, clips: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.finish(self.network(self.prepare(clips, valid)))


def build(name: str, store: Store, published: frozenset[str], dataset: str) -> Extractor:
    """-> the extractor of this name, on the CPU, in evaluation mode. Raises SettingsError, WeightsError."""
    return registry.load(name)(store, published, dataset).eval()


def device_of(settings: ExtractionSettings) -> torch.device:
    """-> the device that [extraction] device means here. Raises SettingsError where it is not there."""
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(settings.device)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise SettingsError(
                f"[extraction] device: found {settings.device}, but this machine has {count} CUDA devices; "
                "expected one of them, cpu or auto"
            )
    return device


def check_precision(device: torch.device, settings: ExtractionSettings) -> None:
    """Raise SettingsError for a GPU that has no arithmetic for ``fast``: those before Ampere only imitate bfloat16."""
    if settings.precision == "fast" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise SettingsError(
            f"[extraction] precision: found fast, but {torch.cuda.get_device_name(device)} does not compute in "
            "bfloat16; expected exact"
        )


@contextlib.contextmanager
def arithmetic(device: torch.device, settings: ExtractionSettings) -> Iterator[None]:
    """Fixed threads, and on a GPU float32 as asked: exact without TF32, fast with it. Restores what was set before."""
    threads, matmul = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    fast = settings.precision == "fast"
    torch.set_num_threads(settings.threads)
    torch.backends.cuda.matmul.allow_tf32 = fast
    try:
        with (
            # Else pinned memory would be had through the first GPU, which may be somebody else's.
            torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext(),
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=fast),
        ):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = matmul


def place(extractor: Extractor, device: torch.device, settings: ExtractionSettings) -> Extractor:
    """-> the extractor on its device, its network in the arrangement that is fastest there."""
    extractor = extractor.to(device)
    if device.type == "cpu":
        flat.flatten(extractor.network)
    if channels_last(device, settings):
        volumes = any(isinstance(layer, nn.Conv3d) for layer in extractor.network.modules())
        layout = torch.channels_last_3d if volumes else torch.channels_last
        extractor.network.to(memory_format=layout)  # type: ignore[call-overload]
    return extractor


def channels_last(device: torch.device, settings: ExtractionSettings) -> bool:
    """-> whether networks and their input are stored channels-last: not for exact numbers of a GPU."""
    return device.type == "cpu" or settings.precision == "fast"


def network_of(extractor: Extractor, x: Tensor, settings: ExtractionSettings) -> Tensor:
    """Prepared input -> output of the network, float32. Under ``arithmetic``."""
    if x.ndim >= 4 and channels_last(x.device, settings):
        x = x.contiguous(memory_format=torch.channels_last_3d if x.ndim == 5 else torch.channels_last)
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=settings.precision == "fast"):
        features = extractor.network(x)
    return features.to(torch.float32)


def compute(extractor: Extractor, clips: Tensor, valid: Tensor | None, settings: ExtractionSettings) -> Tensor:
    """-> features (B, width) float32 on the clips' device. Under ``arithmetic``."""
    return extractor.finish(network_of(extractor, extractor.prepare(clips, valid), settings))


def features(
    extractor: Extractor,
    read: Callable[[int, int], tuple[np.ndarray, np.ndarray | None]],
    count: int,
    batch_clips: int,
    device: torch.device,
    settings: ExtractionSettings,
) -> Iterator[np.ndarray]:
    """Yield rows (b, width) float32 for clips [0, count), batch by batch.

    ``read(start, stop)`` -> clips and real frames per clip (or None) of these rows. The extractor has to be on
    ``device`` (``place``) and the caller under ``arithmetic``. Memory: the batches in flight, whatever ``count`` is.
    """
    waiting: Callable[[], np.ndarray] | None = None
    for clips, valid, ready in batches(read, count, batch_clips, device, settings.prefetch_batches):
        if ready is not None:
            stream = torch.cuda.current_stream(device)
            ready.wait(stream)
            for each in (clips, valid):
                if each is not None:  # its memory belongs to the copying stream
                    each.record_stream(stream)
        rows = to_host(compute(extractor, clips, valid, settings))
        # Wait for a batch only when the next one is under way, so that the device never waits for the host.
        if waiting is not None:
            yield waiting()
        waiting = rows
    if waiting is not None:
        yield waiting()


def extract(
    decoded: Path,
    feature_set: str,
    weights: WeightsSettings,
    settings: ExtractionSettings,
    published: frozenset[str],
    dataset: str,
    output: h5.Output,
) -> None:
    """Decoded shard (schemas.DECODED) -> features of all its clips (schemas.CLIP_FEATURES).

    Failed videos have no clips and keep their reason. Attributes tell what was loaded (``weights``: slot -> name,
    sha256, source), where it ran (``device``), how many ``videos`` the shard has and why some failed (``failures``:
    reason -> count). Raises ArtefactError where the shard was decoded for another feature set, WeightsError and
    SettingsError as ``build`` and ``device_of``, PipelineError for a feature that is not finite.
    """
    store = Store(weights.resolved(dataset))
    device = device_of(settings)
    check_precision(device, settings)
    names = registry.feature_set_named(feature_set).extractors
    plans = registry.plans(feature_set, published, dataset)
    with h5.read(decoded, schemas.DECODED) as shard, output.create() as file, arithmetic(device, settings):
        for modality, name in names.items():
            check_clips(shard, modality, name, plans[modality])
        for column in ("id", "status", "reason", "detail"):
            file.write(column, shard[column])
        clips = {}
        for modality, name in names.items():
            make = functools.partial(build, name, store, published, dataset)
            clips[modality] = _extract_modality(shard, file, modality, name, make, device, settings)
        device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        file.attributes.update(
            weights=store.loaded,
            extractors=names,
            precision=settings.precision,
            device=device_name,
            clips=clips,
            videos=shard.length("id"),
            failures=dict(Counter(shard["reason"][shard["status"] != "ok"].tolist())),
        )


@contextlib.contextmanager
def memory_errors(name: str, modality: str, size: int, device: torch.device) -> Iterator[None]:
    """Turn a GPU's lack of memory into a SettingsError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SettingsError(
            f"[extraction] {modality}_batch_clips: {device} has too little free memory for {size} clips of {name} at "
            "once; set fewer, or see what else runs there"
        ) from error


def check_clips(shard: h5.Artefact, modality: str, name: str, plan: str) -> None:
    """Raise ArtefactError unless the shard holds the clips that this extractor takes."""
    found = shard.attributes.get(PLAN[modality])
    if found != plan:
        raise ArtefactError(
            f"{shard.path}: found {modality} clips of plan {found!r}, expected {plan!r} for {name}; "
            "the shard was decoded for another feature set, dataset or protocol"
        )
    shape, expected = shard.shape(CLIPS[modality])[1:], registry.entry(name).clip
    if shape != expected:
        raise ArtefactError(
            f"{shard.path}: clips of {CLIPS[modality]} have shape {shape}, expected {expected} for {name}; "
            "the plan and the registry disagree: mend the line of extractors/registry.py"
        )


def _extract_modality(
    shard: h5.Artefact,
    file: h5.Writer,
    modality: str,
    name: str,
    make: Callable[[], Extractor],
    device: torch.device,
    settings: ExtractionSettings,
) -> int:
    """Write one modality's group; -> its number of clips. The network is made only if there are clips."""
    line = registry.entry(name)
    column = CLIPS[modality]
    count = shard.length(column)
    for each in ("offsets", "start_s", "stop_s"):
        file.write(f"{modality}/{each}", shard[f"{modality}/{each}"])
    file.append(f"{modality}/features", np.empty((0, line.width), np.float32))
    if not count:
        return 0

    def read(start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        valid = shard.rows("video/frames_valid", start, stop) if modality == "video" else None
        return shard.rows(column, start, stop), valid

    extractor = place(make(), device, settings)
    done, size = 0, settings.batch_clips(modality, device.type)
    with Progress(f"extract {name}", count, "clips") as progress, memory_errors(name, modality, size, device):
        for rows in features(extractor, read, count, size, device, settings):
            if not np.isfinite(rows).all():
                raise PipelineError(
                    f"{shard.path}: {name} gave features that are not finite for clips {done} to "
                    f"{done + len(rows) - 1}; expected numbers: check the weights and, with precision fast, try exact"
                )
            file.append(f"{modality}/features", rows)
            done += len(rows)
            progress.advance(len(rows))
    return count
