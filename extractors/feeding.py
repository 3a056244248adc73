"""Batches to the device and rows back, while the network computes.

A thread reads the next batches from the file and copies them to the device; rows go back as soon as they are computed.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator

import numpy as np
import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor | None, "torch.cuda.Event | None"]


def batches(
    read: Callable[[int, int], tuple[np.ndarray, np.ndarray | None]],
    count: int,
    size: int,
    device: torch.device,
    ahead: int,
) -> Generator[Batch, None, None]:
    """Yield (clips, valid, ready) of rows [0, size), [size, 2 size), ... of ``count``, on ``device``.

    A thread reads and copies at most ``ahead`` batches before they are asked for. On a GPU it copies from pinned memory
    on a stream of its own; ``ready`` is the event after which a batch may be used.
    """
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(item) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put(item, timeout=0.1)

    def work() -> None:
        try:
            stream = torch.cuda.Stream(device) if device.type == "cuda" else None
            for start in range(0, count, size):
                if stop.is_set():
                    return
                put(to_device(*read(start, min(start + size, count)), device, stream))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def to_device(clips: np.ndarray, valid: np.ndarray | None, device: torch.device, stream) -> Batch:
    """-> the batch on its device, with the event that says when it has arrived (None on the CPU)."""
    tensors = [None if array is None else torch.from_numpy(array) for array in (clips, valid)]
    if stream is None:
        return tensors[0], tensors[1], None  # type: ignore[return-value]
    with torch.cuda.stream(stream):
        moved = [None if each is None else each.pin_memory().to(device, non_blocking=True) for each in tensors]
        return moved[0], moved[1], stream.record_event()  # type: ignore[return-value]


def to_host(rows: Tensor) -> Callable[[], np.ndarray]:
    """Start copying rows to the host; -> function that waits for this copy, and for nothing that was asked for later,
    and gives them."""
    if rows.device.type == "cpu":
        return rows.numpy
    host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    host.copy_(rows, non_blocking=True)
    done = torch.cuda.current_stream(rows.device).record_event()

    def wait() -> np.ndarray:
        done.synchronize()
        return host.numpy()

    return wait
