"""Pickles that lie: none of NumPy's callables may be reached with arguments of the file's choice."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from pipeline import restricted_pickle
from pipeline.errors import ArtefactError


class Call:
    """Pickles as a call of ``what`` and, if given, a state for its result."""

    def __init__(self, what, *arguments, state=None):
        self.reduced = (what, arguments) if state is None else (what, arguments, state)

    def __reduce__(self):
        return self.reduced


MULTIARRAY = np.arange(1).__reduce__()[0]
FORGED = Call(np.dtype, "i8", state=(3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))


def empty():
    return MULTIARRAY, np.ndarray, (0,), b"b"


HOSTILE = {
    "ndarray called": Call(np.ndarray, (1,), np.dtype("O"), b"A" * 8),
    "objects over bytes": Call(*empty(), state=(1, (1,), np.dtype("O"), False, b"A" * 8)),
    "a forged element type": Call(*empty(), state=(1, (1,), FORGED, False, b"A" * 8)),
    "too few bytes": Call(*empty(), state=(1, (100,), np.dtype("f8"), False, b"A" * 8)),
    "too few objects": Call(*empty(), state=(1, (2,), np.dtype("O"), False, [1])),
    "another array type": Call(MULTIARRAY, np.dtype, (0,), b"b"),
    "a type that is none": Call(*empty(), state=(1, (1,), "f8", False, b"A" * 8)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_numpy_would_trust_is_refused(kind, tmp_path):
    path = tmp_path / "hostile.npy"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps({"class 0": HOSTILE[kind]}, protocol=protocol))
        with pytest.raises(ArtefactError, match=r"hostile.npy is damaged \(.*\); expected a pickle or"):
            restricted_pickle.load(path)


ARRAYS = (
    np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)), np.array(["a", "bc"]),
    np.array([b"x"]), np.array([{"a": np.float32(3)}, None], dtype=object), np.arange(8)[::2],
)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_come_back(protocol, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"all": ARRAYS, "one": np.float32(2.5)}, protocol=protocol))
    found = restricted_pickle.load(path)
    assert found["one"] == np.float32(2.5)
    for given, array in zip(ARRAYS, found["all"], strict=True):
        assert array.shape == given.shape and array.dtype.kind == given.dtype.kind
        assert array.tolist() == given.tolist()


def test_what_is_written_names_nothing_that_numpy_1_lacks(tmp_path):
    path = tmp_path / "x.npy"
    restricted_pickle.dump({"a class": [0.5, 1.0]}, path)
    assert b"numpy._core" not in path.read_bytes()
    assert np.load(path, allow_pickle=True).item() == restricted_pickle.load(path) == {"a class": [0.5, 1.0]}


def test_the_released_tables_still_load(reference_data):
    paths = sorted((reference_data / "data" / "upstream").rglob("*.npy"))
    assert len(paths) >= 3
    for path in paths:
        found, expected = restricted_pickle.load(path), np.load(path, allow_pickle=True).item()
        assert found.keys() == expected.keys()
        np.testing.assert_array_equal(np.stack(list(found.values())), np.stack(list(expected.values())))
