"""HDF5 artefacts: complete or absent, described by a schema, checked when written and when read.

* ``Output.create`` writes to a hidden sibling, checks it against the schema, flushes it to disk and renames it.
  A process killed at any moment leaves at most that sibling, which counts as nothing and is removed by the next writer.
* ``content_sha256`` covers every column (name, dtype, shape, bytes) and nothing else: equal data, equal id, whoever
  made it and whenever. What differs between equal runs stands in other attributes.
* Columns carry Fletcher-32 checksums and the file's own structures the ones of HDF5's newer format, so that a flipped
  byte is an error when it is read, not a number.
* Files are opened without HDF5's locks: network file systems do not offer them, and nobody writes to a file in place.
* Ragged data is one concatenated column and a column of offsets.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.errors import ArtefactError, DamagedArtefact
from pipeline.storage import partial_path, remove_stale_partials, storage_errors, sync

CHUNK_BYTES = 1 << 20
LIBRARY_VERSION = ("v110", "v110")
CHECKSUM = "facts_sha256"


@dataclass(frozen=True)
class Column:
    """One dataset of an artefact.

    ``axes``: one entry per dimension; a name (equal names have equal lengths), ``name+1`` (offsets), or a number.
    ``dtype``: a NumPy name, or ``str`` (fixed-length UTF-8 on disk).
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]
    doc: str


@dataclass(frozen=True)
class Schema:
    """``version`` rises whenever the meaning of a column changes; it is part of every digest."""

    name: str
    version: int
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        known = ", ".join(column.name for column in self.columns)
        raise ArtefactError(f"schema {self.name} has no column {name!r}; it has {known}")


def encode(values: Any, column: Column) -> np.ndarray:
    """-> C-contiguous array in the column's dtype; strings become UTF-8 bytes. Refuses lossy casts."""
    array = np.asarray(values)
    if column.dtype == "str":
        encoded = [str(value).encode() for value in array.ravel()]
        width = max((len(value) for value in encoded), default=1)
        return np.array(encoded, dtype=f"S{max(width, 1)}").reshape(array.shape)
    wanted = np.dtype(column.dtype)
    if array.dtype != wanted and array.size and not np.can_cast(array.dtype, wanted, "same_kind"):
        raise ArtefactError(f"column {column.name}: found dtype {array.dtype}, expected {wanted}")
    return np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)


class Writer:
    """An artefact being written. ``attributes`` takes further facts, as values that JSON can hold."""

    def __init__(self, file: h5py.File, schema: Schema):
        self.file = file
        self.schema = schema
        self.attributes: dict[str, Any] = {}
        self.hashes: dict[str, Any] = {}
        self.appended: set[str] = set()
        # Kept open: HDF5 swallows the errors of what it still has to write when a dataset is closed.
        self.datasets: dict[str, h5py.Dataset] = {}

    def write(self, name: str, values: Any) -> None:
        """Write a whole column once."""
        if name in self.hashes:
            raise ArtefactError(f"column {name} of {self.schema.name} is written twice")
        self._add(name, encode(values, self.schema.column(name)))

    def append(self, name: str, rows: Any) -> None:
        """Add rows (axis 0) to a column; the column's bytes are those of one ``write`` of all rows."""
        column = self.schema.column(name)
        if column.dtype == "str":
            raise ArtefactError(f"column {name}: strings can't be appended, collect and write them once")
        array = encode(rows, column)
        if name not in self.hashes:
            self._add(name, array, growing=True)
            return
        if name not in self.appended:
            raise ArtefactError(f"column {name} of {self.schema.name} is written twice")
        dataset = self.datasets[name]
        if array.shape[1:] != dataset.shape[1:]:
            raise ArtefactError(f"column {name}: found rows of shape {array.shape[1:]}, expected {dataset.shape[1:]}")
        if len(array):
            dataset.resize(len(dataset) + len(array), axis=0)
            dataset[len(dataset) - len(array) :] = array
            self.hashes[name].update(array.tobytes())

    def _add(self, name: str, array: np.ndarray, growing: bool = False) -> None:
        if array.ndim != len(self.schema.column(name).axes):
            axes = self.schema.column(name).axes
            raise ArtefactError(f"column {name}: found shape {array.shape}, expected axes {axes}")
        options: dict[str, Any] = {}
        if array.ndim:
            row = max(int(np.prod(array.shape[1:])) * array.dtype.itemsize, 1)
            rows = max(1, CHUNK_BYTES // row)
            rows = rows if growing else min(rows, max(len(array), 1))
            options = {"chunks": (rows, *(max(n, 1) for n in array.shape[1:])), "fletcher32": True}
            options["maxshape"] = (None, *(n or None for n in array.shape[1:]))
        self.datasets[name] = self.file.create_dataset(name, data=array, **options)
        self.hashes[name] = hashlib.sha256(array.tobytes())
        if growing:
            self.appended.add(name)

    def finish(self) -> str:
        """Check every axis; -> content_sha256."""
        missing = [column.name for column in self.schema.columns if column.name not in self.hashes]
        if missing:
            raise ArtefactError(f"{self.file.filename}: column {', '.join(missing)} of {self.schema.name} not written")
        self.file.flush()
        check_axes(self.file, self.schema)
        whole = hashlib.sha256()
        for name in sorted(self.hashes):
            dataset = self.file[name]
            header = f"{name} {dataset.dtype.str} {dataset.shape} {self.hashes[name].hexdigest()}\n"
            whole.update(header.encode())
        return whole.hexdigest()


def check_axes(file: h5py.File, schema: Schema) -> None:
    """Raise ArtefactError where two columns disagree about the length of an axis."""
    lengths: dict[str, tuple[int, str]] = {}
    for column in schema.columns:
        for axis, length in zip(column.axes, file[column.name].shape, strict=True):
            if isinstance(axis, int):
                if axis != length:
                    raise ArtefactError(f"{file.filename}: {column.name} has {length} entries, expected {axis}")
                continue
            name, _, plus = axis.partition("+")
            base = length - int(plus or 0)
            seen, where = lengths.setdefault(name, (base, column.name))
            if seen != base:
                raise ArtefactError(
                    f"{file.filename}: axis {name!r} has length {seen} in {where} but {base} in {column.name}"
                )


@dataclass(frozen=True)
class Output:
    """Where an artefact goes and what is known about it before it is made.

    ``attributes``: JSON-able facts: digest, settings, inputs (name -> content id), provenance.
    ``started``: when the work began, on the monotonic clock; the artefact records how long it took.
    """

    path: Path
    schema: Schema
    attributes: Mapping[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def create(self) -> Iterator[Writer]:
        """Yield a Writer; on a clean exit the artefact is at ``path``, after an exception nothing is."""
        folder = Path(self.path).parent
        sibling = partial_path(self.path)
        try:
            with storage_errors(self.path):
                folder.mkdir(parents=True, exist_ok=True)
                remove_stale_partials(self.path)
            with (
                storage_errors(self.path),
                h5py.File(sibling, "w", libver=LIBRARY_VERSION, locking=False) as file,
                discarded_on_error(file),
            ):
                writer = Writer(file, self.schema)
                yield writer
                if clash := sorted(set(self.attributes) & set(writer.attributes)):
                    raise ArtefactError(
                        f"{self.path}: attribute {', '.join(clash)} is set by the task and by its stage, expected one "
                        "of them: rename the stage's"
                    )
                facts = {**self.attributes, **writer.attributes}
                facts["schema"], facts["schema_version"] = self.schema.name, self.schema.version
                facts["seconds"] = round(time.monotonic() - self.started, 3)
                facts["content_sha256"] = writer.finish()
                stored = {key: json.dumps(value, sort_keys=True) for key, value in facts.items()}
                for key, value in {**stored, CHECKSUM: facts_checksum(stored)}.items():
                    file.attrs[key] = value
                file.flush()
            sync(sibling)
            os.replace(sibling, self.path)
            sync(folder)
        finally:
            sibling.unlink(missing_ok=True)


@contextlib.contextmanager
def discarded_on_error(file: h5py.File) -> Iterator[None]:
    """After an exception, let what HDF5 has yet to write go nowhere: on a full disk it crashes when it closes."""
    try:
        yield
    except BaseException:
        nowhere = os.open(os.devnull, os.O_RDWR)  # a file in memory has limits of its own
        os.dup2(nowhere, file.id.get_vfd_handle())
        os.close(nowhere)
        with contextlib.suppress(RuntimeError):  # HDF5 can't cut it to a length
            file.close()
        raise


class Artefact:
    """An open artefact. ``[name]`` reads a whole column, ``rows`` and ``pick`` some rows; ``attributes``: decoded JSON.

    Whatever can't be read is a DamagedArtefact, hence never read ``file`` itself.
    """

    def __init__(self, file: h5py.File, path: Path, schema: Schema):
        self.file, self.path, self.schema = file, path, schema
        self.attributes = _facts(file, path)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.rows(name, None, None)

    def rows(self, name: str, start: int | None, stop: int | None) -> np.ndarray:
        """-> rows [start, stop) of a column, strings as NumPy ``str``."""
        return self._read(name, slice(start, stop) if self.schema.column(name).axes else ())

    def pick(self, name: str, index: Any) -> np.ndarray:
        """-> the rows of these numbers, in their order; one may be asked for twice."""
        wanted, back = np.unique(np.asarray(index, dtype=int), return_inverse=True)
        return self._read(name, wanted)[back]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._column(name).shape

    def length(self, name: str) -> int:
        """-> number of rows of a column."""
        return self.shape(name)[0]

    def _column(self, name: str) -> h5py.Dataset:
        self.schema.column(name)
        try:
            return self.file[name]
        except (OSError, KeyError, RuntimeError) as error:
            raise DamagedArtefact(self.path, f"column {name}: {error}") from error

    def _read(self, name: str, place: Any) -> np.ndarray:
        dataset = self._column(name)
        try:
            array = dataset[place]
        except (OSError, RuntimeError) as error:
            raise DamagedArtefact(self.path, f"column {name}: {error}") from error
        return np.char.decode(array, "utf-8") if self.schema.column(name).dtype == "str" else array


@contextlib.contextmanager
def read(path: Path, schema: Schema) -> Iterator[Artefact]:
    """Open an artefact and check that it is one of ``schema``.

    Raises ArtefactError if it is missing or of another schema or version, DamagedArtefact if it can't be read.
    """
    with _opened(path) as file:
        artefact = Artefact(file, Path(path), schema)
        found = (artefact.attributes["schema"], artefact.attributes["schema_version"])
        if found != (schema.name, schema.version):
            raise ArtefactError(
                f"{path}: found schema {found[0]} version {found[1]}, expected {schema.name} version {schema.version}; "
                "it comes from another release: move it away and run again"
            )
        yield artefact


def facts(path: Path) -> dict[str, Any]:
    """-> root attributes of any artefact, decoded. Errors as in ``read``."""
    with _opened(path) as file:
        return _facts(file, path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not Path(path).is_file():
        raise ArtefactError(f"{path}: no such artefact; run the task that makes it")
    try:
        file = h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError) as error:
        raise DamagedArtefact(path, f"not readable as HDF5: {error}") from error
    with file:
        yield file


def _facts(file: h5py.File, path: Path) -> dict[str, Any]:
    try:
        stored = dict(_attributes(file))
        checksum = stored.pop(CHECKSUM, None)
        if checksum != facts_checksum(stored):
            raise DamagedArtefact(path, "the checksum of its attributes does not fit")
        return {key: json.loads(value) for key, value in stored.items()}
    except (OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise DamagedArtefact(path, f"attributes: {error}") from error


def _attributes(file: h5py.File) -> Iterator[tuple[str, str]]:
    """-> (name, value) of the root's attributes, as strings, in half the time that ``file.attrs`` takes."""
    for index in range(h5py.h5a.get_num_attrs(file.id)):
        attribute = h5py.h5a.open(file.id, index=index)
        value = np.empty((), dtype=attribute.dtype)
        attribute.read(value)
        yield attribute.name.decode(), value.item().decode()


def facts_checksum(stored: Mapping[str, str]) -> str:
    """-> sha256 over all attributes but the checksum itself (HDF5 keeps long ones where its checksums do not reach)."""
    return hashlib.sha256(json.dumps(sorted((key, str(value)) for key, value in stored.items())).encode()).hexdigest()
