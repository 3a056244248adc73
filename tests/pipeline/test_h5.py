"""Artefacts: complete or absent, checked axes, content ids, damage found on reading."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from pipeline import h5
from pipeline.errors import ArtefactError, DamagedArtefact
from pipeline.h5 import Column, Output, Schema
from pipeline.storage import storage_errors

SCHEMA = Schema("sample", 1, (
    Column("id", "str", ("video",), ""),
    Column("offsets", "int64", ("video+1",), ""),
    Column("rows", "float32", ("clip", 3), ""),
))


def write(path, ids=("a", "é"), rows=None, attributes=None):
    rows = np.arange(6, dtype=np.float32).reshape(2, 3) if rows is None else rows
    with Output(path, SCHEMA, attributes or {}).create() as file:
        file.write("id", list(ids))
        file.write("offsets", np.arange(len(ids) + 1))
        file.write("rows", rows)
    return h5.facts(path)["content_sha256"]


def test_round_trip(tmp_path):
    write(tmp_path / "a.h5", attributes={"settings": {"x": [1, 2]}})
    with h5.read(tmp_path / "a.h5", SCHEMA) as file:
        assert file["id"].tolist() == ["a", "é"]
        np.testing.assert_array_equal(file.rows("rows", 1, 2), [[3, 4, 5]])
        assert file.attributes["settings"] == {"x": [1, 2]}
        np.testing.assert_array_equal(file.pick("rows", [1, 0, 1]), [[3, 4, 5], [0, 1, 2], [3, 4, 5]])
        assert file.pick("id", []).tolist() == [] and file.pick("id", [1]).tolist() == ["é"]
        assert (file.length("rows"), file.shape("rows")) == (2, (2, 3))


def test_content_id_is_of_the_data_alone(tmp_path):
    first = write(tmp_path / "a.h5", attributes={"seconds": 1})
    assert write(tmp_path / "b.h5", attributes={"seconds": 2}) == first
    assert write(tmp_path / "c.h5", ids=("a", "b")) != first
    assert write(tmp_path / "d.h5", rows=np.ones((2, 3), np.float32)) != first


def test_appended_rows_are_the_written_ones(tmp_path):
    whole = write(tmp_path / "a.h5")
    with Output(tmp_path / "b.h5", SCHEMA).create() as file:
        file.write("id", ["a", "é"])
        file.write("offsets", [0, 1, 2])
        for row in np.arange(6, dtype=np.float32).reshape(2, 1, 3):
            file.append("rows", row)
    assert h5.facts(tmp_path / "b.h5")["content_sha256"] == whole


def test_empty_strings_and_rows(tmp_path):
    write(tmp_path / "a.h5", ids=(), rows=np.zeros((0, 3), np.float32))
    with h5.read(tmp_path / "a.h5", SCHEMA) as file:
        assert file["id"].tolist() == []
        assert file["rows"].shape == (0, 3)


@pytest.mark.parametrize("change, message", [
    ({"ids": ("a",), "offsets": [0, 1, 2]}, "axis 'video' has length 1 in id but 2 in offsets"),
    ({"rows": np.zeros((2, 4))}, "rows has 4 entries, expected 3"),
    ({"rows": np.zeros(3)}, "found shape"),
    ({"offsets": [0.5, 1.0, 2.0]}, "found dtype float64, expected int64"),
])
def test_wrong_columns_are_refused_and_leave_nothing(tmp_path, change, message):
    values = {"ids": ("a", "b"), "offsets": [0, 1, 2], "rows": np.zeros((2, 3)), **change}
    with pytest.raises(ArtefactError, match=message), Output(tmp_path / "a.h5", SCHEMA).create() as file:
        file.write("id", list(values["ids"]))
        file.write("offsets", values["offsets"])
        file.write("rows", values["rows"])
    assert list(tmp_path.iterdir()) == []


def test_missing_unknown_and_double_columns(tmp_path):
    with pytest.raises(ArtefactError, match="column offsets, rows of sample not written"), \
            Output(tmp_path / "a.h5", SCHEMA).create() as file:
        file.write("id", ["a"])
    with pytest.raises(ArtefactError, match="no column 'other'; it has id, offsets, rows"), \
            Output(tmp_path / "a.h5", SCHEMA).create() as file:
        file.write("other", [1])
    with pytest.raises(ArtefactError, match="written twice"), Output(tmp_path / "a.h5", SCHEMA).create() as file:
        file.write("id", ["a"])
        file.write("id", ["a"])
    assert list(tmp_path.iterdir()) == []


def test_an_exception_keeps_the_old_artefact(tmp_path):
    before = write(tmp_path / "a.h5")
    with pytest.raises(RuntimeError, match="half way"), Output(tmp_path / "a.h5", SCHEMA).create() as file:
        file.write("id", ["z"])
        raise RuntimeError("half way")
    assert h5.facts(tmp_path / "a.h5")["content_sha256"] == before


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path):
    script = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {os.getcwd()!r})
        from tests.pipeline.test_h5 import SCHEMA
        from pipeline.h5 import Output
        from pathlib import Path
        with Output(Path({str(tmp_path / "a.h5")!r}), SCHEMA).create() as file:
            file.write("id", ["a"])
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "a.h5").exists()
    assert len(list(tmp_path.iterdir())) == 1, "the dead writer's sibling"
    write(tmp_path / "a.h5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"], "the next writer removes it"


def test_a_table_without_rows_and_columns(tmp_path):
    schema = Schema("table", 1, (Column("cells", "float32", ("row", "column"), ""),))
    with Output(tmp_path / "a.h5", schema).create() as file:
        file.write("cells", np.zeros((0, 0)))
    with h5.read(tmp_path / "a.h5", schema) as file:
        assert file["cells"].shape == (0, 0)


def test_reading_checks_schema_and_version(tmp_path):
    write(tmp_path / "a.h5")
    with pytest.raises(ArtefactError, match="found schema sample version 1, expected sample version 2"), \
            h5.read(tmp_path / "a.h5", Schema("sample", 2, SCHEMA.columns)):
        pass
    with pytest.raises(ArtefactError, match="no such artefact"), h5.read(tmp_path / "none.h5", SCHEMA):
        pass


def test_every_flipped_byte_is_found_or_harmless(tmp_path):
    path = tmp_path / "a.h5"
    write(path, attributes={"long": "x" * 100_000})
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    found = 0
    for position in rng.choice(len(raw), 200, replace=False):
        flipped = bytearray(raw)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        try:
            with h5.read(path, SCHEMA) as file:
                assert file["id"].tolist() == ["a", "é"]
                assert (file.shape("rows"), file.length("id")) == ((2, 3), 2)
                np.testing.assert_array_equal(file.pick("rows", [1, 0]), [[3, 4, 5], [0, 1, 2]])
                assert file.attributes["long"] == "x" * 100_000
        except DamagedArtefact as error:
            assert str(path) in str(error)
            found += 1
    assert found > 100, "most of the file is data or attributes"


def test_every_truncation_is_found(tmp_path):
    path = tmp_path / "a.h5"
    write(path)
    raw = path.read_bytes()
    for length in range(0, len(raw), 257):
        path.write_bytes(raw[:length])
        with pytest.raises(DamagedArtefact, match="is damaged"), h5.read(path, SCHEMA) as file:
            file["rows"]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path):
    script = textwrap.dedent(f"""
        import resource, signal, sys
        import numpy as np
        sys.path.insert(0, {os.getcwd()!r})
        from tests.pipeline.test_h5 import write
        from pathlib import Path
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        write(Path({str(tmp_path / "a.h5")!r}), rows=np.ones((1_000_000, 3)))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "a.h5: could not be written: file too large; expected room and the right to write there" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_lost_or_said_by_hdf5_when_an_appended_column_fails(tmp_path):
    """What HDF5 writes only as it closes goes nowhere by then: it would print a traceback, or crash."""
    script = textwrap.dedent(f"""
        import resource, signal, sys
        import numpy as np
        sys.path.insert(0, {os.getcwd()!r})
        from pathlib import Path
        from pipeline.errors import ArtefactError
        from tests.pipeline.test_h5 import SCHEMA, Output
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
        try:
            with Output(Path({str(tmp_path / "a.h5")!r}), SCHEMA).create() as file:
                for _ in range(4000):
                    file.append("rows", np.random.rand(100, 3).astype(np.float32))
        except ArtefactError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "could not be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        open(tmp_path / "none").close()
    with pytest.raises(ArtefactError, match="no space left on device.*set .paths. root"), storage_errors(tmp_path):
        raise OSError(28, "No space left on device")
    child = "in a decoding process:\nOSError: [Errno 28] No space left on device"
    with pytest.raises(ArtefactError, match="no space left on device"), storage_errors(tmp_path):
        raise RuntimeError(child)
    with pytest.raises(ArtefactError, match="^table.csv: could not be written"), storage_errors(tmp_path):
        raise OSError(28, "No space left on device", "table.csv")


def test_a_stage_does_not_overwrite_what_the_task_says(tmp_path):
    output = h5.Output(tmp_path / "a.h5", SCHEMA, {"digest": "1"})
    clash = pytest.raises(ArtefactError, match="attribute digest is set by the task and by its stage")
    with clash, output.create() as file:
        file.attributes["digest"] = "2"
    assert list(tmp_path.iterdir()) == []
