"""What the tests of acquisition share: datasets to acquire, and a server that behaves badly."""

from __future__ import annotations

import csv
import http.server
import socket
import time
from pathlib import Path

from pipeline import acquire, h5, manifest, media, schemas
from pipeline.acquire import AcquireSettings
from pipeline.datasets import DATASETS
from pipeline.errors import VideoError


def probe_here(paths):
    """Stands for ``local_files.probe_files`` where child processes, which take a second to start, are not the point."""
    for path in paths:
        try:
            yield media.probe(path)
        except VideoError as error:
            yield error


def new_run(monkeypatch):
    """What was tried so far was tried by an earlier run."""
    monkeypatch.setattr(acquire, "RUN_STARTED", time.time())


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class Case:
    """A dataset under ``root``: its manifest, and acquisitions of it."""

    def __init__(self, root: Path, dataset: str, settings):
        self.root, self.dataset, self.settings = root, dataset, settings
        self.output = root / "acquired" / dataset / "acquired.h5"

    def run(self, settings: AcquireSettings) -> dict[str, dict]:
        """-> video id -> its row of the snapshot."""
        path = self.root / "manifest.h5"
        manifest.build(self.dataset, self.settings, h5.Output(path, schemas.MANIFEST))
        self.output.parent.mkdir(parents=True, exist_ok=True)
        acquire.acquire(path, self.dataset, settings, h5.Output(self.output, schemas.ACQUIRED))
        with h5.read(self.output, schemas.ACQUIRED) as file:
            names = [c.name for c in schemas.ACQUIRED.columns if c.axes == ("video",)]
            self.shards = file["shard_content"].tolist()
            columns = [file[name].tolist() for name in names]
        return {row[0]: dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)}

    def missing(self) -> list[dict]:
        with open(self.output.with_suffix(".missing.csv"), encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def vggsound(root: Path, ids: list[str]) -> Case:
    table = root / "list.csv"
    table.write_text("video_id,class_name,subset\n" + "".join(f"{name},air horn,train\n" for name in ids))
    return Case(root, "vggsound", DATASETS["vggsound"].settings(table=str(table)))


OFFLINE = AcquireSettings(download=False, max_failed_share=1.0)


class Server(http.server.ThreadingHTTPServer):
    """Answers as ``plans`` says: key -> list of plans, one per request, the last one for ever."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.plans: dict[str, list[str]] = {}
        self.asked: list[tuple[str, int]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/{{id}}"

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        key = self.path.strip("/").removeprefix("moved/")
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.server.asked.append((key, start))
        plans = self.server.plans.get(key, ["ok"])
        plan = plans.pop(0) if len(plans) > 1 else plans[0]
        content = self.server.content
        if plan.isdigit():
            return self.send_error(int(plan))
        if plan == "moved" and not self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", f"/moved/{key}")
            return self.end_headers()
        page = plan.startswith("html")
        content = b"<html><title>Sign in to the hotel's network</title></html>" if page else content
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html" if plan == "html" else "video/mp4")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start + (1000 if plan == "longer" else 0)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return None
        # A first small read tells yt-dlp what the URL is; what matters happens in the transfer of the file.
        half = len(content) // 2
        if plan in ("drop", "stall", "stuck") and start < half:
            self.wfile.write(content[start:half])
            self.wfile.flush()
            time.sleep({"drop": 0, "stall": 3, "stuck": 100}[plan])
            return self.connection.shutdown(socket.SHUT_RDWR)
        self.wfile.write(content[start:])
        return None


def online(server, **changes) -> AcquireSettings:
    return AcquireSettings(**{
        "video_url": server.url, "sleep_s": 0.0, "timeout_s": 1.0, "tries": 2, "max_failed_share": 1.0, **changes,
    })
