"""Archives of videos: found or fetched, opened, and only the wanted videos taken out."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Collection
from pathlib import Path

from pipeline.decode_pool import die_with_parent
from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.scratch import scratch_beside
from pipeline.storage import file_sha256, partial_path, sync

BLOCK_BYTES = 1 << 20
TRIES = 5
# No fault of the archive.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def unpack(archive: Path, folder: Path, stems: Collection[str]) -> set[str]:
    """Take the videos with these names (without suffix) out of ``archive`` into ``folder``; -> all names it holds.

    A file that is already there is left alone; one that appears is whole. Formats: zip, tar, rar (by bsdtar).
    Raises PipelineError for a missing, damaged or unknown archive and where bsdtar is not installed, OSError for a
    full disk.
    """
    if not archive.is_file():
        raise PipelineError(f"{archive}: no such archive; check [acquire] archives")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            return _unpack_zip(archive, folder, stems)
        if tarfile.is_tarfile(archive):
            return _unpack_tar(archive, folder, stems)
        if is_rar(archive):
            return _unpack_rar(archive, folder, stems)
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, RuntimeError) as error:
        if getattr(error, "errno", None) in FULL:
            raise
        raise PipelineError(f"{archive}: {error}; expected a whole archive: delete it and fetch it again") from error
    raise PipelineError(f"{archive}: found neither a zip, a tar nor a rar file; check [acquire] archives")


def is_rar(archive: Path) -> bool:
    with open(archive, "rb") as file:
        return file.read(6) == b"Rar!\x1a\x07"


def bsdtar() -> str:
    """-> the program that opens RAR archives. Raises PipelineError, naming its package, if it is not installed."""
    program = shutil.which("bsdtar")
    if program is None:
        raise PipelineError(
            "the videos come as a RAR archive and bsdtar, the free program that opens it, is not installed: install "
            "the package libarchive-tools (Debian, Ubuntu) or bsdtar (Fedora), or unpack the archive by other means "
            "and name the folder in [acquire] folders"
        )
    return program


def _wanted(name: str, folder: Path, stems: Collection[str]) -> Path | None:
    """-> where a member goes; None: not wanted, or there. Only its last name counts: no path can lead outside."""
    last = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = last.rpartition(".")
    target = folder / last
    return target if dot and stem in stems and suffix and not last.startswith(".") and not target.exists() else None


def _place(source, target: Path) -> None:
    sibling = partial_path(target)
    try:
        with open(sibling, "wb") as file:
            shutil.copyfileobj(source, file, BLOCK_BYTES)
        sync(sibling)
        os.replace(sibling, target)
    finally:
        sibling.unlink(missing_ok=True)


def _stem(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]


def _unpack_zip(archive: Path, folder: Path, stems: Collection[str]) -> set[str]:
    names = set()
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            target = _wanted(member.filename, folder, stems)
            if target is not None and not member.is_dir():
                with file.open(member) as source:
                    _place(source, target)
            names.add(_stem(member.filename))
    return names


def _unpack_tar(archive: Path, folder: Path, stems: Collection[str]) -> set[str]:
    names = set()
    with tarfile.open(archive) as file:
        for member in file:
            target = _wanted(member.name, folder, stems)
            source = file.extractfile(member) if target is not None and member.isfile() else None
            if target is not None and source is not None:
                _place(source, target)
            names.add(_stem(member.name))
    return names


def _unpack_rar(archive: Path, folder: Path, stems: Collection[str]) -> set[str]:
    """bsdtar unpacks all of it to a scratch folder: picking members of a solid archive would read it many times."""
    program, names = bsdtar(), set()
    with scratch_beside(folder / archive.name) as scratch:
        command = [program, "-x", "--no-same-owner", "-C", str(scratch), "-f", str(archive.absolute())]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              preexec_fn=die_with_parent)
        if done.returncode:
            full = next((number for number in FULL if os.strerror(number) in done.stderr), None)
            if full:
                raise OSError(full, os.strerror(full), str(folder))
            raise OSError(f"bsdtar: {' '.join(done.stderr.split())[-300:]}")
        for path in sorted(scratch.rglob("*")):
            target = _wanted(path.name, folder, stems)
            if target is not None and path.is_file() and not path.is_symlink():
                sync(path)
                os.replace(path, target)
            names.add(path.stem)
    return names


def download(url: str, path: Path, sha256: str = "", timeout_s: float = 60.0) -> Path:
    """Fetch an archive, going on where an earlier try stopped; -> ``path``.

    ``sha256``: of the whole, empty if the publisher gives none. Raises PipelineError if it can't be had or is another.
    """
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    problem: Exception | None = None
    for attempt in range(TRIES):
        time.sleep(min(2.0**attempt - 1, 30))
        try:
            total = _continue(url, part, timeout_s)
            if part.stat().st_size < total:
                problem = OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")
                continue
            if sha256 and (found := file_sha256(part)) != sha256:
                part.unlink()
                raise PipelineError(f"{url}: found sha256 {found}, expected {sha256}; it is not the published archive")
            sync(part)
            os.replace(part, path)
            return path
        except urllib.error.HTTPError as error:
            problem = error
            if error.code < 500 and error.code != 429:
                break
        except (urllib.error.URLError, OSError) as error:
            if error.errno in FULL:
                raise
            problem = error
    raise PipelineError(
        f"{url}: {problem}; expected the archive: run again to go on where it stopped, or fetch it by other means and "
        "name it in [acquire] archives"
    ) from problem


def _continue(url: str, part: Path, timeout_s: float) -> int:
    """Fetch what is missing of ``part``; -> bytes that the server says the whole has, 0 if it says nothing."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return have
        raise
    with answer:
        if answer.status != 206:
            have = 0
        length = int(answer.headers.get("Content-Length") or 0)
        left = Progress(f"fetch {part.stem}", length // BLOCK_BYTES, "MiB")
        with open(part, "ab" if have else "wb") as file, left as progress:
            while block := answer.read(BLOCK_BYTES):
                file.write(block)
                progress.advance()
    return have + length if length else 0
