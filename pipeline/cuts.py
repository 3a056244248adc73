"""The arithmetic of a split: roles of classes by shares, and stratified cuts of videos that keep groups together."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import PipelineError
from pipeline.schemas import ROLES

SEEN_ROLES = ("train", "val_unseen")
# What training and evaluation need at least: two classes to tell apart, and something on each side of each cut.
FEWEST_CLASSES = {"train": 2, "val_unseen": 1, "test_unseen": 1}
FEWEST_UNITS = {"train": 3, "val_unseen": 2, "test_unseen": 1}
SUBSETS_OF = {"train": ("train", "val_seen", "test_seen"), "val_unseen": ("val_unseen", "test_seen")}


@dataclass(frozen=True)
class Videos:
    """The manifest's columns that a split needs: ``class_index`` (videos,) is a row of ``class_names``."""

    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    class_index: np.ndarray
    groups: tuple[str, ...]


@dataclass
class Subsets:
    """One entry per video: ``subset`` (empty: in none) and ``excluded`` (why, else empty)."""

    subset: list[str]
    excluded: list[str]


# Classes.


def role_counts(allowed: int, classes: int, val_share: float, test_share: float) -> tuple[int, int]:
    """-> numbers of val_unseen and test_unseen classes, of ``classes`` of which ``allowed`` may be unseen.

    Where pre-training leaves fewer than the shares ask for, all that are left are used, in the proportion asked for
    (the paper's UCF: 21 of 51 are left, 12 and 9 of them are used).
    """
    val, test = max(1, round(classes * val_share)), max(1, round(classes * test_share))
    if val + test > allowed:
        test = max(1, math.floor(allowed * test / (val + test)))
        val = allowed - test
    return val, test


def assign_roles(
    class_names: Sequence[str],
    usable: Sequence[bool],
    overlapping: Sequence[bool],
    shares: tuple[float, float],
    seed: int,
) -> list[str]:
    """-> one of ROLES per class, drawn by the seed. Overlapping classes are never unseen, unusable ones are unused.

    ``shares``: of val_unseen and of test_unseen classes.
    Raises PipelineError if there are too few classes for every role.
    """
    used = [i for i in range(len(class_names)) if usable[i]]
    allowed = [i for i in used if not overlapping[i]]
    val, test = role_counts(len(allowed), len(used), *shares)
    train = len(used) - val - test
    fewest = sum(FEWEST_CLASSES.values())
    if len(used) >= fewest and train < FEWEST_CLASSES["train"]:
        raise PipelineError(
            f"CurateSplit: [split] val_unseen_share and test_unseen_share leave {train} of {len(used)} classes to "
            f"train on, expected at least {FEWEST_CLASSES['train']}: lower them"
        )
    if len(used) < fewest or val < FEWEST_CLASSES["val_unseen"]:
        raise PipelineError(
            f"CurateSplit: found {len(used)} classes of which {len(allowed)} may be unseen, expected at least "
            f"{fewest} of which {sum(FEWEST_CLASSES[role] for role in ROLES[1:3])} may be: add "
            "classes, or settle overlaps in a decision file ([split] decisions)"
        )
    drawn = np.random.default_rng([seed, 0]).permutation(allowed)
    roles = ["train" if usable[i] else "unused" for i in range(len(class_names))]
    for position, index in enumerate(drawn[: val + test]):
        roles[index] = "test_unseen" if position < test else "val_unseen"
    return roles


def declared_roles(class_names: Sequence[str], roles: Mapping[str, str]) -> list[str]:
    """-> the dataset's own role of each class. Raises PipelineError for a class without one and an unknown role."""
    for name in class_names:
        if roles.get(name) not in ROLES:
            raise PipelineError(
                f"CurateSplit: found role {roles.get(name)!r} declared for class {name!r}, expected one of "
                f"{', '.join(ROLES)}"
            )
    return [roles[name] for name in class_names]


# Videos.


def cut_videos(videos: Videos, roles: Sequence[str], excluded: Sequence[str], share: float, seed: int) -> Subsets:
    """Subset of every video, from its class's role: 0.9/0.1 twice, stratified by class.

    ``share``: of a class's videos that each cut holds out. ``videos.groups``: clips that stay on one side of every cut;
    with each clip its own group, this is the published way. A group that spans a seen and an unseen class leaves the
    more seen side, with the reason in ``excluded``.
    Raises PipelineError, naming the class, if a class has too few videos (or groups of its own) for its cuts.
    """
    role = np.array(roles, dtype=object)[videos.class_index]
    excluded = list(excluded)
    role[[bool(reason) for reason in excluded]] = "unused"
    _leave_out_spanning_groups(videos.groups, role, excluded)
    _require_videos(videos, roles, role)
    subset = np.where(role == "unused", "", role).astype(object)
    for step, (name, of_roles) in enumerate((("test_seen", SEEN_ROLES), ("val_seen", ("train",)))):
        rows = np.flatnonzero(np.isin(subset, of_roles))
        units = [videos.groups[row] for row in rows]
        generator = np.random.default_rng([seed, 1, step])
        # The first cut leaves two groups of a training class, since the second one cuts it again.
        spare = {i: 2 if roles[i] == "train" and step == 0 else 1 for i in range(len(roles))}
        held = hold_out(videos.class_index[rows], units, share, spare, generator)
        subset[rows[held]] = name
    _require_subsets(videos, roles, subset)
    for row in np.flatnonzero(role == "unused"):
        excluded[row] = excluded[row] or "its class is unused"
    return Subsets([str(name) for name in subset], excluded)


def _leave_out_spanning_groups(groups: Sequence[str], role: np.ndarray, excluded: list[str]) -> None:
    """Where one recording has clips of two roles, only those of the least seen one stay."""
    order = ("train", "val_unseen", "test_unseen")
    level = {name: position for position, name in enumerate(order)}
    highest: dict[str, int] = defaultdict(int)
    for group, name in zip(groups, role, strict=True):
        highest[group] = max(highest[group], level.get(name, 0))
    for row, group in enumerate(groups):
        if role[row] in level and level[role[row]] < highest[group]:
            excluded[row] = f"same recording as a {order[highest[group]]} video: {group}"
            role[row] = "unused"


def _require_videos(videos: Videos, roles: Sequence[str], role: np.ndarray) -> None:
    grouped = videos.groups != videos.ids
    units: dict[int, set[str]] = defaultdict(set)
    for row in np.flatnonzero(role != "unused"):
        units[int(videos.class_index[row])].add(videos.groups[row])
    for index, name in enumerate(videos.class_names):
        needed = FEWEST_UNITS.get(roles[index], 0)
        if len(units[index]) < needed:
            what = "separate recordings" if grouped else "videos"
            raise PipelineError(
                f"CurateSplit: class {name!r} ({roles[index]}) has {len(units[index])} {what}, expected at least "
                f"{needed}: add videos, or leave it out with [split] exclude_classes"
            )


def _require_subsets(videos: Videos, roles: Sequence[str], subset: np.ndarray) -> None:
    """Recordings that several classes share may leave one of them without any for a side of a cut."""
    found = set(zip(videos.class_index.tolist(), subset.tolist(), strict=True))
    for index, name in enumerate(videos.class_names):
        lacking = [part for part in SUBSETS_OF.get(roles[index], ()) if (index, part) not in found]
        if lacking:
            raise PipelineError(
                f"CurateSplit: class {name!r} ({roles[index]}) has no recording left for {lacking[0]}, since it shares "
                "them with other classes, expected one of its own for every subset: add videos, or leave it out with "
                "[split] exclude_classes"
            )


def hold_out(
    class_index: np.ndarray,
    units: Sequence[str],
    share: float,
    spare: Mapping[int, int],
    generator: np.random.Generator,
) -> np.ndarray:
    """-> (videos,) bool, true for the videos held out: ``share`` of each class, whole units only.

    Units come in random order; one is held out if that brings its classes closer to their quota. Every class with at
    least two units keeps ``spare`` of them (one, if it has only two) and holds out at least one, unless others that it
    shares them with need them more.
    Quotas are rounded to add up to the share of all videos.
    """
    classes, local = np.unique(class_index, return_inverse=True)
    quota = _quotas(np.bincount(local), share)
    members: dict[str, list[int]] = defaultdict(list)
    for row, unit in enumerate(units):
        members[unit].append(row)
    counts = {unit: Counter(int(local[row]) for row in rows) for unit, rows in members.items()}
    left = Counter(index for content in counts.values() for index in content)
    floor = {index: min(spare.get(int(name), 1), left[index] - 1) for index, name in enumerate(classes)}
    held_videos: Counter[int] = Counter()
    held_units: Counter[int] = Counter()
    held = np.zeros(len(units), dtype=bool)
    names = sorted(members)
    drawn = [names[position] for position in generator.permutation(len(names))]

    def take(unit: str) -> None:
        held[members[unit]] = True
        held_videos.update(counts[unit])
        for index in counts[unit]:
            left[index] -= 1
            held_units[index] += 1

    def can_go(unit: str) -> bool:
        return all(left[index] > max(floor[index], 1) for index in counts[unit])

    for unit in drawn:
        gain = sum(
            abs(held_videos[index] + videos - quota[index]) - abs(held_videos[index] - quota[index])
            for index, videos in counts[unit].items()
        )
        if gain < 0 and can_go(unit):
            take(unit)
    for index in range(len(classes)):
        if held_units[index]:
            continue
        candidates = [unit for unit in drawn if index in counts[unit] and not held[members[unit][0]] and can_go(unit)]
        if candidates:
            take(min(candidates, key=lambda unit: len(members[unit])))
    return held


def _quotas(sizes: np.ndarray, share: float) -> np.ndarray:
    """Integers near ``share`` of each size that add up to the rounded share of the total, at least 1 where size > 1."""
    exact = sizes * share
    quota = np.floor(exact).astype(int)
    rest = int(round(float(exact.sum()))) - int(quota.sum())
    for index in np.argsort(-(exact - quota), kind="stable")[: max(rest, 0)]:
        quota[index] += 1
    return np.where(sizes > 1, np.clip(quota, 1, sizes - 1), 0)
