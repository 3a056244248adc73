"""Child processes for code that may hang, crash or eat all memory: one call at a time, under limits.

Children are started afresh (nothing is inherited from a parent that may hold threads or CUDA), live for many calls, are
killed with SIGKILL together with all that they started when a call reaches its time limit, and die with their parent.
``run`` drives jobs, generators that yield ``Call`` and are sent its result, and hands out their results in job order.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, VideoError

PR_SET_PDEATHSIG = 1
STARTUP_S = 60.0
DYING_S = 5.0
# Looked up before any fork: a child between fork and exec can't.
LIBC = ctypes.CDLL(None)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Call:
    """``function(*arguments)`` in a child, for at most ``limit_s`` seconds. The function is one of a module."""

    function: Callable[..., Any]
    arguments: tuple
    limit_s: float


Job = Generator[Call, Any, Any]


class Child:
    """One child process, and the job whose call it works on."""

    def __init__(self, memory_mb: int):
        self.memory_mb = memory_mb
        self.job: Job | None = None
        self.number = -1
        self.start()

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        root = str(Path(__file__).resolve().parent.parent)
        paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        code = f"from pipeline.decode_pool import serve; serve({theirs.fileno()}, {self.memory_mb})"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], pass_fds=[theirs.fileno()], start_new_session=True,
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": paths},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        self.connection = Connection(ours.detach())
        self.ready = False

    def submit(self, call: Call, kills: int = 0) -> None:
        """Hand the child a call; ``kills``: how often a child was killed from outside over it."""
        self.call, self.kills = call, kills
        self.deadline = time.monotonic() + call.limit_s + (0.0 if self.ready else STARTUP_S)
        try:
            self.connection.send((call.function, call.arguments))
        except OSError:  # it died between two calls: once more, with another
            self.stop()
            self.start()
            self.connection.send((call.function, call.arguments))

    def result(self) -> tuple[str, Any] | None:
        """-> (kind, value) of the call, after the connection became readable; None: the child only reports for duty,
        from when on the time of its first call counts, or was killed from outside, and another has the call.

        Raises PipelineError if that one was killed, too: no decoder sends itself SIGKILL, a machine out of memory does.
        """
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(DYING_S)
            kind, value = "died", self.process.poll()
            self.stop()
            self.start()
        if kind == "ready":
            self.ready = True
            self.deadline = time.monotonic() + self.call.limit_s
            return None
        if kind == "killed" or (kind == "died" and value == -signal.SIGKILL):
            if self.kills:
                raise PipelineError(
                    "a decoding process was killed twice from outside (SIGKILL), as a machine does that runs out of "
                    f"memory; expected up to {self.memory_mb} MB for each: lower the number of workers or [decoding] "
                    "processes, or ask for more memory"
                )
            self.submit(self.call, self.kills + 1)
            return None
        if kind == "died":
            return "video", VideoError("decoder_crashed", f"a decoder died of {describe(value)}")
        return kind, value

    def overdue(self) -> tuple[str, Any]:
        """Kill the child and start another; -> what its call came to."""
        self.stop()
        self.start()
        return "video", VideoError("decoder_hung", f"a decoder was killed after {self.call.limit_s:.0f} s")

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()


def describe(status: int | None) -> str:
    """-> 'signal SIGSEGV' or 'exit status 1'."""
    if status is None:
        return "its connection"
    try:
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    except ValueError:
        return f"signal {-status}"


def run(jobs: Iterable[Job], processes: int, memory_mb: int, ahead: int = 1) -> Iterator[Any]:
    """Yield the return value of every job, in order, while children work on up to ``ahead`` further ones each.

    A call that hangs or kills its child raises VideoError (decoder_hung, decoder_crashed) inside the job, as does a
    VideoError of the function; any other exception ends the run. PipelineError: see ``Child.result``.
    """
    waiting = deque(enumerate(jobs))
    total = len(waiting)
    done: dict[int, Any] = {}
    children = [Child(memory_mb) for _ in range(min(processes, total))]
    handed = 0
    try:
        while handed < total:
            for child in children:
                while child.job is None and waiting and waiting[0][0] <= handed + processes * ahead:
                    child.number, child.job = waiting.popleft()
                    advance(child, "ok", None, done)
            if handed in done:
                yield done.pop(handed)
                handed += 1
                continue
            busy = [child for child in children if child.job is not None]
            left = min(child.deadline for child in busy) - time.monotonic()
            ready = wait([child.connection for child in busy], max(left, 0.0))
            for child in busy:
                result = None
                if child.connection in ready:
                    result = child.result()
                elif time.monotonic() >= child.deadline:
                    result = child.overdue()
                if result is not None:
                    advance(child, *result, done)
    finally:
        for child in children:
            child.stop()


def advance(child: Child, kind: str, value: Any, done: dict[int, Any]) -> None:
    """Give the child's job what its last call came to, and the child the job's next call, or ``done`` its end."""
    assert child.job is not None
    if kind == "bug":
        raise RuntimeError(f"in a decoding process:\n{value}")
    try:
        call = child.job.throw(value) if kind == "video" else child.job.send(value)
    except StopIteration as stop:
        done[child.number], child.job = stop.value, None
        return
    child.submit(call)


class KilledFromOutside(Exception):
    """A program that a call had started died of a SIGKILL that nobody here sent."""


def die_with_parent() -> None:
    """Have the kernel kill this process as soon as the one that started it is gone."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(handle: int, memory_mb: int) -> None:
    """A child's main loop: receive calls, send results, until the parent closes the connection."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    connection = Connection(handle)
    importlib.import_module("pipeline.decoding")
    connection.send(("ready", None))
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        connection.send(attempt(function, arguments))


def attempt(function: Callable[..., Any], arguments: tuple) -> tuple[str, Any]:
    """-> ('ok', value), ('video', VideoError), ('killed', None) or ('bug', traceback)."""
    try:
        return "ok", function(*arguments)
    except VideoError as error:
        return "video", error
    except KilledFromOutside:
        return "killed", None
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return "video", VideoError("decoder_crashed", "a decoder ran out of its memory limit")
        return "bug", traceback.format_exc()


@contextlib.contextmanager
def piped(command: list[str]) -> Iterator[Any]:
    """A running command, whose standard output is to be read; it is gone afterwards, whatever happens."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, preexec_fn=die_with_parent
        )
        try:
            yield process
        finally:
            process.kill()
            process.stdout.close()  # type: ignore[union-attr]
            process.wait()


def check_alive(process: Any) -> int:
    """-> exit status of a program whose output has ended. Raises KilledFromOutside if it was, for want of memory."""
    status = process.wait()
    if status == -signal.SIGKILL:
        raise KilledFromOutside
    return status
