"""Weights for the networks: which file a slot means, where it is, and its strict loading.

Importing this module imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extractors import fetch, generated, registry
from extractors.settings import WeightsSettings
from extractors.weight_files import Slot, WeightFile
from pipeline.errors import SettingsError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn


def chosen_file(slot: Slot, settings: WeightsSettings) -> WeightFile | Path:
    """-> the registered file of this slot, or the path that [weights] choose gives."""
    choice = settings.chosen.get(slot.name, slot.files[0].name)
    for file in slot.files:
        if file.name == choice:
            return file
    return Path(choice)


def located(slot: Slot, settings: WeightsSettings) -> tuple[Path, str]:
    """-> path and sha256 of this slot's weights, fetched on first use.

    Raises WeightsError where the file is neither there nor to be had, or is not the published one.
    """
    file = chosen_file(slot, settings)
    if isinstance(file, Path):
        return file, _content(file, slot)
    path = Path(settings.folder) / file.file_name
    if not path.is_file():
        if not settings.fetch:
            raise WeightsError(
                f"weights {slot.name!r}: {path} is not there and [weights] fetch is false; put the file of {file.url} "
                "there, or name another with [weights] choose"
            )
        path = fetch.fetch(file, Path(settings.folder))
    return path, fetch.verify(path, file)


def _content(path: Path, slot: Slot) -> str:
    if not path.is_file():
        names = ", ".join(file.name for file in slot.files)
        raise WeightsError(
            f"weights {slot.name!r}: [weights] choose names {str(path)!r}, which is no file; "
            f"expected a path or one of {names}"
        )
    return fetch.sha256_of(path)


def identity(slot: Slot, settings: WeightsSettings) -> str:
    """-> what stands for this slot's weights in a digest; see registry.weights_identity."""
    if settings.source == "generated":
        return f"generated-{generated.VERSION}"
    file = chosen_file(slot, settings)
    if isinstance(file, Path):
        return f"sha256:{_content(file, slot)}"
    return f"{file.name}:{file.sha256}" if file.sha256 else file.name


def to_fetch(feature_set: str, settings: WeightsSettings, published: frozenset[str], dataset: str) -> int:
    """-> bytes of the files that extraction needs and that are not here, as far as their sizes are known."""
    settings = settings.resolved(dataset)
    if settings.source == "generated":
        return 0
    files = {chosen_file(slot, settings) for slot in registry.slots(feature_set, published)}
    missing = [file for file in files if isinstance(file, WeightFile)
               and not (Path(settings.folder) / file.file_name).is_file()]
    return sum(file.bytes for file in missing)


def check(feature_set: str, settings: WeightsSettings, published: frozenset[str], dataset: str) -> dict[str, Any]:
    """Load everything that extraction will load, so that a wrong weight file is known before hours of decoding.

    -> what was loaded, as in ``Store.loaded``. Raises WeightsError or SettingsError.
    """
    settings = settings.resolved(dataset)
    for name in settings.chosen:
        registry.slot_named(name)
    store = Store(settings)
    if settings.source == "generated":  # nothing of it can be missing
        return {slot.name: {"source": "generated"} for slot in registry.slots(feature_set, published)}
    for name in registry.feature_set_named(feature_set).extractors.values():
        registry.load(name)(store, published, dataset)
    return store.loaded


class Store:
    """Where extractors get their weights from. ``loaded``: slot -> name, sha256, source, licence of what they got."""

    def __init__(self, settings: WeightsSettings):
        if settings.source == "auto":
            raise SettingsError("[weights] source: found auto, expected settings resolved for a dataset")
        self.settings = settings
        self.loaded: dict[str, dict[str, str]] = {}
        self._states: dict[Path, dict[str, Tensor]] = {}

    def network(
        self,
        slot: str,
        build: Callable[[], nn.Module],
        prefix: str = "",
        ignored: tuple[str, ...] = (),
        renamed: Mapping[str, str] | None = None,
    ) -> nn.Module:
        """-> ``build()`` with the slot's weights, in evaluation mode on the CPU.

        Every parameter and buffer has to be in the file, under ``prefix``, with its shape; every other key has to begin
        with one of ``ignored``. Raises WeightsError.
        """
        import torch

        # On the meta device nothing is initialised, neither in vain nor from anybody's random generator.
        with torch.device("meta"):
            network = build()
        wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        if self.settings.source == "generated":
            made = {key: generated.tensor(f"{slot}/{prefix}{key}", shape) for key, shape in wanted.items()}
            state = {key: torch.from_numpy(values) for key, values in made.items()}
            self._note_generated(slot, prefix, state)
        else:
            state = self._published(slot, wanted, prefix, ignored, renamed)
        network.load_state_dict(state, strict=True, assign=True)
        return network.eval().requires_grad_(False)

    def arrays(self, slot: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """-> name -> float64 tensor of these shapes, from .npz or a file of torch.save. Raises WeightsError."""
        import torch

        if self.settings.source == "generated":
            made = {name: torch.from_numpy(values) for name, values in generated.pca(shapes).items()}
            self._note_generated(slot, "", made)
            return made
        from extractors import checkpoints

        path, more = self._file(slot)
        found = checkpoints.read_arrays(path, more)
        tensors = {name: torch.as_tensor(value, dtype=torch.float64).squeeze() for name, value in found.items()}
        return checkpoints.select(path, tensors, shapes)

    def _published(self, slot, wanted, prefix, ignored, renamed) -> dict[str, Tensor]:
        from extractors import checkpoints

        path, more = self._file(slot)
        if path not in self._states:
            self._states[path] = checkpoints.state_dict(path, more)
        state = checkpoints.select(path, self._states[path], wanted, prefix, ignored, renamed)
        return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}

    def _file(self, slot: str) -> tuple[Path, bool]:
        """-> path, and whether it may carry more than tensors; notes what it is."""
        declared = registry.slot_named(slot)
        path, sha256 = located(declared, self.settings)
        file = chosen_file(declared, self.settings)
        known = isinstance(file, WeightFile)
        self.loaded[slot] = {
            "name": file.name if isinstance(file, WeightFile) else path.name,
            "sha256": sha256,
            "source": "published" if known else "path",
            "licence": file.licence if isinstance(file, WeightFile) else "unknown",
        }
        more = file.carries_more if isinstance(file, WeightFile) else any(each.carries_more for each in declared.files)
        return path, more

    def _note_generated(self, slot: str, prefix: str, state: Mapping[str, Tensor]) -> None:
        digest = hashlib.sha256()
        for key in sorted(state):
            digest.update(key.encode())
            digest.update(state[key].numpy().tobytes())
        self.loaded[f"{slot}/{prefix}".rstrip("/.")] = {
            "name": f"generated-{generated.VERSION}",
            "sha256": digest.hexdigest(),
            "source": "generated",
            "licence": "none",
        }
