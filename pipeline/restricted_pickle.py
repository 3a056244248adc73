"""Pickles from outside, read without giving them the power to run anything: only NumPy arrays and plain containers.

NumPy's own constructors trust what they are given: ``ndarray`` called by a pickle lays Python objects over bytes of the
file's choice, and a forged ``dtype`` state does the same. None of NumPy's callables is handed out, hence: what a pickle
gets under their names are the small ones below, which check sizes and types before NumPy sees them.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ArtefactError

# Stands for the type that arrays name when they are pickled. It can't be called.
NDARRAY = object()
PLAIN_TYPE = re.compile(r"[<>|=]?(\?|[biufcSU]\d+|O8?)")


class ElementType:
    """In the place of ``numpy.dtype``: numbers, texts, and objects where they come as a list; no fields."""

    def __init__(self, code: str, align: object = False, copy: object = False):
        if not isinstance(code, str) or not PLAIN_TYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"an element type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        """``state``: version, byte order, subarray, names, fields, ... Only the byte order is taken from it."""
        if any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an element type with fields")
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Rebuilt(np.ndarray):
    """An array that takes its content from a pickle, once it has been checked."""

    def __setstate__(self, state: tuple) -> None:  # type: ignore[override]
        """``state``: version, shape, element type, Fortran order, content."""
        _, shape, kind, fortran, content = state
        dtype = dtype_of(kind)
        count = math.prod(shape)
        if dtype.hasobject:
            fits = type(content) is list and len(content) == count
        else:
            fits = type(content) is bytes and len(content) == count * dtype.itemsize
        if not fits:
            raise pickle.UnpicklingError(f"an array whose content does not fill its shape {shape} of {dtype}")
        super().__setstate__((1, shape, dtype, bool(fortran), content))  # type: ignore[misc, arg-type]


def dtype_of(kind: Any) -> np.dtype:
    if type(kind) is not ElementType:
        raise pickle.UnpicklingError(f"a {type(kind).__name__}, expected an element type")
    return kind.dtype


def reconstruct(kind: Any, shape: Any, code: Any) -> Rebuilt:
    """In the place of ``_reconstruct``: an empty array; shape and content follow."""
    if kind is not NDARRAY:
        raise pickle.UnpicklingError("an array type of another kind")
    return np.ndarray.__new__(Rebuilt, (0,), np.int8)


def scalar(kind: Any, content: bytes) -> Any:
    return np.frombuffer(content, dtype_of(kind), count=1)[0]  # NumPy refuses objects here


def from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    if type(content) not in (bytes, bytearray):  # not an array, which a pickle could fill anew under this one
        raise pickle.UnpicklingError(f"a buffer of type {type(content).__name__}")
    return np.frombuffer(content, dtype_of(kind)).reshape(shape, order=order)


def encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


# Both names of NumPy's core package: files written by NumPy 1 and by NumPy 2.
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): NDARRAY, ("numpy", "dtype"): ElementType, ("_codecs", "encode"): encode,
}
_OF_CORE: dict[tuple[str, str], Callable] = {
    ("multiarray", "_reconstruct"): reconstruct, ("multiarray", "scalar"): scalar,
    ("numeric", "_frombuffer"): from_buffer,
}
for (_module, _name), _made in _OF_CORE.items():
    ALLOWED |= {(f"numpy.{core}.{_module}", _name): _made for core in ("core", "_core")}


class ArrayUnpickler(pickle.Unpickler):
    """Refuses every global but what rebuilds arrays."""

    def __init__(self, file: Any, path: Path, **options: Any):
        super().__init__(file, **options)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
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
    except (
        pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError
    ) as error:
        raise ArtefactError(f"{path} is damaged ({error}); expected a pickle or .npy file: fetch it again") from error
    return array.item() if isinstance(array, np.ndarray) and array.ndim == 0 else array


def dump(content: Any, path: Path) -> None:
    """Write ``content`` as an object-dtype ``.npy`` file that NumPy 1 reads, too: it knows no ``numpy._core``.

    ``content`` itself should hold plain values only. Protocol 2 writes names as lines of text.
    """
    array = np.array(content, dtype=object)
    pickled = pickle.dumps(array, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core.", 1)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": array.shape})
        file.write(pickled)
