"""Which GPU a task computes on: the first free one of this machine, held by lock files.

Luigi's resources count over the whole cluster (``gpu``: extractions at once, ``gpu_training``: trainings) but do not
say which GPU; here tasks on one machine are kept apart. An extraction fills a GPU and gets all of it, a training uses a
small part and gets one of ``SHARES`` shares. A lock is gone with its holder, even after ``kill -9``.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.errors import SettingsError

POLL_S = 0.5
SHARES = 4
logger = logging.getLogger("luigi-interface")


def gpus() -> list[str]:
    """-> name of each GPU that CUDA will show to this process, in its numbering: physical index or UUID.

    CUDA reads CUDA_VISIBLE_DEVICES up to the first entry that names no GPU, and shows none if one is named twice.
    """
    found = [entry.name for entry in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", entry.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(index) for index in range(len(found))]
    names: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if not (found and (entry.startswith(("GPU-", "MIG-")) or (entry.isdecimal() and int(entry) < len(found)))):
            break
        if entry in names:
            return []
        names.append(entry)
    return names


def works() -> bool:
    """-> whether this torch can compute on the GPUs of this machine."""
    from model.embedding import resolve_device

    return resolve_device("auto").type == "cuda"


def resources(device: str, name: str) -> dict[str, int]:
    """-> what Luigi's scheduler is to count for a task with this ``device`` setting; ``name``: gpu or gpu_training."""
    return {name: 1} if device.startswith("cuda") or (device == "auto" and gpus()) else {}


@contextlib.contextmanager
def slot(device: str, whole: bool) -> Iterator[str]:
    """Yield the device to compute on: ``cpu``, or ``cuda:<i>`` held until the end, ``whole`` or a share of it.

    ``device``: auto, cpu, cuda or cuda:<i>. Waits until one is free. Raises SettingsError if a GPU is asked for and
    there is none; auto means the CPU there, and where torch can't use the GPU, which is logged as a warning.
    """
    names = gpus() if device != "cpu" else []
    usable = bool(names) and works()
    if device == "auto" and names and not usable:
        logger.warning("found %d GPUs that torch can't use; computing on the CPU (device = cpu says so)", len(names))
    if device == "cpu" or (device == "auto" and not usable):
        yield "cpu"
        return
    wanted = [int(device.partition(":")[2])] if ":" in device else list(range(len(names)))
    if not usable or wanted[-1] >= len(names):
        unusable = " that torch can't use" if names and not usable else ""
        raise SettingsError(
            f"device {device!r}: found {len(names)} GPUs on this machine{unusable}; set device = auto or cpu"
        )
    with contextlib.ExitStack() as held:
        shares = {
            index: [held.enter_context(opened(lock_file(names[index], share))) for share in range(SHARES)]
            for index in wanted
        }
        yield f"cuda:{hold_whole(shares) if whole else hold_share(shares)}"


def hold_share(shares: dict[int, list[IO[bytes]]]) -> int:
    """Lock a share of one GPU, a GPU that has more of them free first; -> its index."""
    while True:
        # An extraction locks the first share first, and waits with it for the others.
        for share in reversed(range(SHARES)):
            for index, files in shares.items():
                if locked(files[share]):
                    return index
        time.sleep(POLL_S)


def hold_whole(shares: dict[int, list[IO[bytes]]]) -> int:
    """Lock all shares of a GPU: of an idle one, or of the first without an extraction, when its trainings have ended;
    -> its index."""
    while True:
        for index, files in shares.items():
            if all(locked(each) for each in files):
                return index
            for each in files:
                fcntl.flock(each, fcntl.LOCK_UN)
        for index, (first, *others) in shares.items():
            if locked(first):
                for each in others:  # no training can overtake: a share that is let go is taken here
                    fcntl.flock(each, fcntl.LOCK_EX)
                return index
        time.sleep(POLL_S)


def locked(file: IO[bytes]) -> bool:
    """Lock the file if nobody else does; -> whether it is ours."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_file(name: str, share: int) -> Path:
    return Path(tempfile.gettempdir()) / f"avgzsl-gpu-{name}-{share}.lock"


def opened(path: Path) -> IO[bytes]:
    """-> the lock file, for reading: whoever made it, that is enough to lock it."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.fchmod(descriptor, 0o644)  # whatever the umask
        os.close(descriptor)
    return path.open("rb")
