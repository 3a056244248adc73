"""Weight files that are fetched: continued after a break, verified, read once for their checksum."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import http.server
import io
import threading
from pathlib import Path

import pytest
import torch

from extractors import fetch
from extractors.weight_files import WeightFile
from pipeline.errors import WeightsError

TINY = WeightFile("tiny", "tiny.pth", "http://127.0.0.1:9/tiny.pth", "MIT", "nobody, 2020")


class Server:
    """Serves one file; breaks the connection of the first ``breaks`` answers half way; knows what was asked for."""

    def __init__(self, content: bytes, breaks: int = 0, offset: int = 0):
        self.content, self.breaks = content, breaks
        self.ranges: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.ranges.append(wanted)
                start = int(wanted[6:-1]) if wanted else 0
                if start >= len(outer.content):
                    self.send_error(416)
                    return
                rest = outer.content[start:]
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(rest)))
                if wanted:
                    last = len(outer.content) - 1
                    self.send_header("Content-Range", f"bytes {start + offset}-{last}/{last + 1}")
                self.end_headers()
                if outer.breaks:
                    outer.breaks -= 1
                    rest = rest[: len(rest) // 2]
                self.wfile.write(rest)

            def log_message(self, *arguments) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/tiny.pth"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_fetched_on_first_use_and_resumed_after_a_break(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(100000)}, buffer)
    content = buffer.getvalue()
    with Server(content, breaks=2) as server:
        file = dataclasses.replace(TINY, url=server.url, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        path = fetch.fetch(file, tmp_path / "weights")
        assert path.read_bytes() == content
        half = len(content) // 2
        assert server.ranges == [None, f"bytes={half}-", f"bytes={half + (len(content) - half) // 2}-"]
        fetch.fetch(file, tmp_path / "weights")
        assert len(server.ranges) == 3
    assert not (tmp_path / "weights" / "tiny.pth.part").exists()


def test_connection_that_always_breaks_is_continued_by_the_next_run(tmp_path):
    content = bytes(range(256)) * 1000
    with Server(content, breaks=fetch.TRIES) as server:
        file = dataclasses.replace(TINY, url=server.url)
        with pytest.raises(WeightsError, match="the connection broke 3 times; run again to go on from 224000 bytes"):
            fetch.fetch(file, tmp_path)
        assert fetch.fetch(file, tmp_path).read_bytes() == content
        assert server.ranges[-1] == "bytes=224000-"


def test_server_that_goes_on_elsewhere(tmp_path):
    with Server(bytes(1000), breaks=1, offset=7) as server:
        file = dataclasses.replace(TINY, url=server.url)
        with pytest.raises(WeightsError, match="found Content-Range 'bytes 507-999/1000', expected bytes from 500 on"):
            fetch.fetch(file, tmp_path)


def test_answer_that_is_no_http(tmp_path, monkeypatch):
    def broken(*_):
        raise http.client.IncompleteRead(b"", 5)

    monkeypatch.setattr(fetch, "_continue", broken)
    with pytest.raises(WeightsError, match=r"tiny.pth can't be fetched \(IncompleteRead"):
        fetch.fetch(TINY, tmp_path)


def test_a_file_is_read_once_for_its_checksum(tmp_path, monkeypatch):
    path = tmp_path / "tiny.pth"
    path.write_bytes(b"one")
    first = fetch.verify(path, TINY)
    monkeypatch.setattr(Path, "open", None)
    assert fetch.verify(path, TINY) == first == hashlib.sha256(b"one").hexdigest()
    monkeypatch.undo()
    path.write_bytes(b"another")
    assert fetch.verify(path, TINY) == hashlib.sha256(b"another").hexdigest()


def test_fetched_file_that_is_not_the_published_one(tmp_path):
    with Server(b"something else") as server:
        file = dataclasses.replace(TINY, url=server.url, sha256="12345678")
        with pytest.raises(WeightsError, match="expected 12345678"):
            fetch.fetch(file, tmp_path)
    assert not (tmp_path / "tiny.pth").exists()
    assert not (tmp_path / "tiny.pth.part").exists()


def test_wrong_checksum(tmp_path):
    (tmp_path / "tiny.pth").write_bytes(b"tiny")
    wrong = dataclasses.replace(TINY, sha256="00000000")
    with pytest.raises(WeightsError, match=r"found sha256 [0-9a-f]{64}, expected 00000000\.\.\.; delete it and fetch"):
        fetch.verify(tmp_path / "tiny.pth", wrong)
    with pytest.raises(WeightsError, match="bytes, expected 7; delete it and fetch"):
        fetch.verify(tmp_path / "tiny.pth", dataclasses.replace(TINY, bytes=7))
