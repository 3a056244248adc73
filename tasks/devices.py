"""Which GPU a task computes on: the first free one of this machine, held by a lock file. No torch here.

``resources = {"gpu": 1}`` counts GPUs over the whole cluster but does not say which; two tasks on one machine must not
take the same. A lock is gone with its holder, even after ``kill -9``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import SettingsError

POLL_S = 0.5


def gpus() -> list[int]:
    """-> indices of the GPUs that CUDA will show to this process, as CUDA will number them."""
    found = [entry.name for entry in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", entry.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(found) if visible is None else min(len(found), len([v for v in visible.split(",") if v.strip()]))
    return list(range(count))


def resources(device: str) -> dict[str, int]:
    """-> what Luigi's scheduler is to count for a task with this ``device`` setting."""
    return {"gpu": 1} if device.startswith("cuda") or (device == "auto" and gpus()) else {}


@contextlib.contextmanager
def slot(device: str) -> Iterator[str]:
    """Yield the device to compute on: ``cpu``, or ``cuda:<i>`` held until the end. Waits for a free one.

    ``device``: auto, cpu, cuda or cuda:<i>. Raises SettingsError if a GPU is asked for and there is none.
    """
    available = gpus()
    if device == "cpu" or (device == "auto" and not available):
        yield "cpu"
        return
    wanted = [int(device.partition(":")[2])] if ":" in device else available
    if not wanted or not set(wanted) <= set(available):
        raise SettingsError(f"device {device!r}: found {len(available)} GPUs on this machine; set device = auto or cpu")
    with contextlib.ExitStack() as stack:
        handles = {i: stack.enter_context(open(lock_file(i), "a")) for i in wanted}
        while True:
            for index, handle in handles.items():
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield f"cuda:{index}"
                    return
            time.sleep(POLL_S)


def lock_file(index: int) -> Path:
    """-> the lock of one GPU; physical index where CUDA_VISIBLE_DEVICES gives one."""
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    name = visible[index] if index < len(visible) else str(index)
    return Path(tempfile.gettempdir()) / f"avgzsl-gpu-{name}.lock"
