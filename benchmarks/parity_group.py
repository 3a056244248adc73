"""What a comparison with golden numbers returns: one entry per group of values with one tolerance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Group:
    """``deviation``: the largest one found, in the unit of ``tolerance``; ``ignored``: (key, reason) not compared."""

    name: str
    compared: int
    deviation: float
    tolerance: float
    ignored: list[tuple[str, str]]
