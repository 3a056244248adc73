"""Reading weight files that somebody else made, without running anything that they ask for.

Everything goes through torch's weights-only unpickler: it builds tensors and plain containers and calls nothing else.
Files that carry NumPy values or argument lists beside their tensors get a second reading that knows those few
types as well. A global outside this list is refused, with its name in the message.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import WeightsError


def _harmless() -> list[Any]:
    """-> what the second reading may build: NumPy arrays, scalars and dtypes, and argparse's plain value holder."""
    from _codecs import encode

    from numpy._core import multiarray

    dtypes = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type) and kind is not np.dtypes.ObjectDType]
    globals_: list[Any] = [np.ndarray, np.dtype, argparse.Namespace, *dtypes]
    # NumPy moved its functions in 2.0; files name them by either path.
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        globals_.append((multiarray.scalar, f"{module}.scalar"))
        globals_.append((multiarray._reconstruct, f"{module}._reconstruct"))  # type: ignore[attr-defined]
    # Bytes inside old pickles: text and the name of its encoding.
    return [*globals_, (encode, "_codecs.encode")]


def read(path: Path, carries_more: bool = False) -> Any:
    """-> what a file written by torch.save holds, tensors on the CPU.

    Raises WeightsError where it is not such a file, is cut off, or asks for anything but tensors and plain values.
    """
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            if not (carries_more and refused_global(error)):
                raise
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path}: {explain(path, error)}") from error


def refused_global(error: Exception) -> str:
    """-> the global that torch's unpickler refused, or empty."""
    found = re.search(r"(?:Unsupported|GLOBAL|class|callable) (?:global: GLOBAL )?([\w.]+\.[\w]+)", str(error))
    return found[1] if found and "weights_only" in str(error).replace(" ", "_").lower() else ""


def explain(path: Path, error: Exception) -> str:
    """-> what is wrong with the file, in words."""
    expected = "expected a weight file written by torch.save"
    with path.open("rb") as file:
        start = file.read(64)
    refused = refused_global(error)
    if refused:
        return f"refused, it asks for {refused}, which weights do not need; {expected}: fetch it from its publisher"
    if not start:
        return f"found an empty file, {expected}: delete it and fetch it again"
    if start.lstrip().lower().startswith((b"<!doc", b"<html", b"<?xml")):
        return f"found a web page, {expected}: delete it and fetch it again"
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"found a file that is cut off, {expected}: delete it and fetch it again"
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"not readable ({first[:160]}), {expected}: delete it and fetch it again"


def read_arrays(path: Path, carries_more: bool = False) -> dict[str, Any]:
    """-> name -> array or tensor, from .npz (no pickled objects) or a file written by torch.save."""
    if path.suffix == ".npz" or _is_npz(path):
        try:
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        except Exception as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(
                f"{path}: not readable ({first[:160]}), expected plain arrays in .npz: delete it and fetch it again"
            ) from error
    found = mapping(path, read(path, carries_more))
    for name, value in found.items():
        if not isinstance(value, np.ndarray | Tensor):
            raise WeightsError(f"{path}: {name} is {type(value).__name__}, expected an array")
    return dict(found)


def _is_npz(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def mapping(path: Path, found: Any) -> Mapping[str, Any]:
    """-> ``found`` if it is a mapping with names as keys. Raises WeightsError."""
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise WeightsError(f"{path}: found {type(found).__name__}, expected a state dict: names and tensors")
    return found


def state_dict(path: Path, carries_more: bool = False) -> dict[str, Tensor]:
    """-> key -> tensor, unwrapped: from under ``model`` where training state surrounds it, without ``module.``."""
    found = mapping(path, read(path, carries_more))
    if isinstance(found.get("model"), Mapping):
        found = mapping(path, found["model"])
    tensors = {}
    for key, value in found.items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{path}: {key} is {type(value).__name__}, expected a tensor")
        tensors[key.replace("module.", "")] = value
    return tensors


def select(
    path: Path,
    found: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[int, ...]],
    prefix: str = "",
    ignored: tuple[str, ...] = (),
    renamed: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """-> exactly the wanted tensors, keys without ``prefix``.

    ``ignored``: keys that begin so are skipped; ``renamed``: spelling of another release at the start of a key -> ours.
    Raises WeightsError naming the first key that is missing, of another shape, or unknown.
    """
    respelled = {}
    for key, tensor in found.items():
        other = next((start for start in renamed or {} if key.startswith(start)), None)
        respelled[key if other is None else (renamed or {})[other] + key[len(other) :]] = tensor
    missing = [key for key in wanted if prefix + key not in respelled]
    if missing:
        raise WeightsError(
            f"{path}: tensor {prefix + missing[0]!r} is missing ({len(missing)} of {len(wanted)} are), "
            f"found {len(found)} tensors such as {next(iter(found), 'none')!r}; expected the weights of this network"
        )
    for key in respelled:
        if not key.startswith(ignored) and not (key.startswith(prefix) and key[len(prefix) :] in wanted):
            raise WeightsError(f"{path}: tensor {key!r} is unknown; expected the weights of this network and no others")
    for key, shape in wanted.items():
        size = tuple(respelled[prefix + key].shape)
        if size != tuple(shape):
            raise WeightsError(f"{path}: tensor {prefix + key!r} has shape {size}, expected {tuple(shape)}")
    return {key: respelled[prefix + key] for key in wanted}
