"""Progress of long work: count, rate and time left, on one line of a terminal; a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

TERMINAL_PERIOD_S = 0.2
LOG_PERIOD_S = 30.0


def duration(seconds: float) -> str:
    """-> '45 s', '3 min 10 s' or '2 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Context manager over ``total`` units of work; ``advance`` counts, ``note`` replaces the trailing remark.

    ``listener`` (if any) gets (text, fraction): the task runner shows it in the scheduler's web page.
    """

    listener: Callable[[str, float], None] | None = None

    def __init__(self, label: str, total: int, unit: str = "videos"):
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.remark = ""

    def __enter__(self) -> Progress:
        self.started = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()
        return self

    def advance(self, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.shown >= (TERMINAL_PERIOD_S if self.terminal else LOG_PERIOD_S):
            self.shown = now
            self.show("\r" if self.terminal else "", "" if self.terminal else "\n")

    def note(self, remark: str) -> None:
        self.remark = remark

    def line(self) -> str:
        """-> 'decode demo 3/8: 12/20 videos, 4.1 videos/s, 2 s left'."""
        seconds = time.monotonic() - self.started
        rate = self.done / seconds if seconds > 0 else 0.0
        left = f", {duration((self.total - self.done) / rate)} left" if rate and self.done < self.total else ""
        return f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.3g} {self.unit}/s{left}{self.remark}"

    def show(self, start: str, end: str) -> None:
        text = self.line()
        sys.stderr.write(f"{start}{text:<100}{end}" if self.terminal else f"{text}{end}")
        sys.stderr.flush()
        if Progress.listener is not None:
            Progress.listener(text, self.done / max(self.total, 1))

    def __exit__(self, kind, value, trace) -> None:
        if self.terminal:
            self.show("\r", "\r")
            sys.stderr.write(" " * 110 + "\r")
