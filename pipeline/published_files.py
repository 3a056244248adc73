"""The released benchmark files: fetched when asked for, verified by their git blob ids, used as they are."""

from __future__ import annotations

import functools
import hashlib
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from pipeline.errors import PipelineError, SettingsError
from pipeline.tables import read_table

TABLE = Path(__file__).parent / "datasets" / "published_files.csv"
URL = "https://raw.githubusercontent.com/ExplainableML/AVCA-GZSL/9e6df3db1ef1d5772da30694539a4c45122cc0b8"
TIMEOUT_S = 60
TRIES = 3
LARGEST_BYTES = 64 << 20


@functools.cache
def blob_ids() -> dict[str, str]:
    """-> path in the repository -> git blob id (SHA-1) of the released file."""
    return {row["path"]: row["git_blob_sha1"] for row in read_table(TABLE, ("path", "git_blob_sha1"))}


def blob_id(data: bytes) -> str:
    """-> the id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def fetch(path: str, upstream: str, cache: Path) -> Path:
    """-> a local copy of one released file, verified.

    ``upstream``: base URL, or a folder that holds the repository's files (a clone). ``cache``: folder for what is
    fetched from a URL. Raises PipelineError if the file can't be had or is not the released one.
    """
    expected = blob_ids()[path]
    if "://" not in upstream:
        local = Path(upstream) / path
        if not local.is_file():
            raise SettingsError(f"upstream: found no file {local}, expected a folder with the released files (a clone)")
        _verify(local.read_bytes(), expected, str(local))
        return local
    local = Path(cache) / path
    if local.is_file() and blob_id(local.read_bytes()) == expected:
        return local
    url = f"{upstream.rstrip('/')}/{urllib.parse.quote(path)}"
    data = _download(url)
    _verify(data, expected, url)
    local.parent.mkdir(parents=True, exist_ok=True)
    sibling = local.with_name(f".{local.name}.{os.getpid()}.partial")
    sibling.write_bytes(data)
    os.replace(sibling, local)
    return local


def _verify(data: bytes, expected: str, where: str) -> None:
    found = blob_id(data)
    if found != expected:
        raise PipelineError(
            f"{where}: found git blob {found} ({len(data)} bytes), expected {expected}; it is not the released file: "
            "check the URL, or point 'upstream' at a clone of the repository"
        )


def _download(url: str) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"upstream: found {url!r}, expected an http(s) URL or a folder")
    error: Exception | None = None
    for attempt in range(TRIES):
        time.sleep(attempt)
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
                data = response.read(LARGEST_BYTES + 1)
            if len(data) <= LARGEST_BYTES:
                return data
            raise PipelineError(f"{url}: more than {LARGEST_BYTES} bytes, expected one of the released lists")
        except urllib.error.HTTPError as answer:
            error = answer
            if answer.code < 500 and answer.code != 429:
                break
        except (urllib.error.URLError, OSError) as failure:
            error = failure
    raise PipelineError(
        f"{url}: {error}; expected the released file: try again with a network, or set 'upstream' to a folder that "
        "holds a clone of the repository"
    ) from error
