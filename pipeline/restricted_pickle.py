"""Pickles from outside, read without giving them the power to run anything: only NumPy arrays and plain containers."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ArtefactError

# Both names of NumPy's core package: files written by NumPy 1 and by NumPy 2.
ALLOWED = frozenset(
    (module, name)
    for module, name in (
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    )
)


class ArrayUnpickler(pickle.Unpickler):
    """Refuses every global but what rebuilds arrays."""

    def __init__(self, file: Any, path: Path, **options: Any):
        super().__init__(file, **options)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return super().find_class(module, name)
        raise ArtefactError(
            f"{self.path}: the pickle asks for {module}.{name}, expected arrays and plain containers only; "
            "it could run code: do not use this file"
        )


def load(path: Path) -> Any:
    """-> content of a ``.pkl`` or of an object-dtype ``.npy`` file (a 0-d array's item, else the array).

    Raises ArtefactError for a missing or damaged file and for a pickle that asks for anything but arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file; fetch it again")
    data = path.read_bytes()
    try:
        if not data.startswith(b"\x93NUMPY"):
            return ArrayUnpickler(io.BytesIO(data), path).load()
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if header(file)[2] != np.dtype(object):
            return np.load(io.BytesIO(data), allow_pickle=False)
        array = ArrayUnpickler(file, path).load()
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); expected a pickle or .npy file: fetch it again") from error
    return array.item() if isinstance(array, np.ndarray) and array.ndim == 0 else array
