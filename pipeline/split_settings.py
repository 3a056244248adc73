"""What ``[split]`` of luigi.cfg says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline import published_files
from pipeline.errors import SettingsError
from pipeline.tables import identity

KINDS = ("auto", "published", "table", "curated")
FILES = ("table", "exclude_ids", "categories", "decisions", "vectors")
# What only a split made here asks for, and of it what only drawn roles do.
DRAWN = ("val_unseen_share", "test_unseen_share", "overlap", "decisions", "lists", "vectors")
CURATED = ("seed", "held_out_share", "exclude_classes", "exclude_ids", "categories", "exclude_categories", *DRAWN)


@dataclass(frozen=True)
class SplitSettings:
    """``kind``: the released split, one read from ``table``, or one made here; ``auto``: the released one where there
    is one. ``table``: CSV file with the columns video_id,class_name,subset.

    ``seed``: of what is drawn. ``val_unseen_share``, ``test_unseen_share``: of all classes; ``held_out_share``: of a
    seen class's videos. ``exclude_classes``: names left out, separated by commas, or a file with one name a line.
    ``exclude_ids``: file with one id of a video or recording a line (those an extractor was pre-trained on).
    ``categories``: CSV file with the columns class_name,category, and ``exclude_categories`` the ones left out.
    ``overlap``: keep classes known from pre-training from being unseen; ``on``: fail where a list can't be had;
    ``auto``: warn where no list and no decision says anything about a class. ``decisions``: CSV file that says so per
    class and pre-training set; it always wins. ``lists``: labels of pre-training sets, as name=file. ``vectors``: file
    of word vectors, to compare labels by meaning. ``upstream``: URL or folder of the released files.
    """

    kind: str = "auto"
    table: str = ""
    seed: int = 0
    val_unseen_share: float = 0.25
    test_unseen_share: float = 0.25
    held_out_share: float = 0.1
    exclude_classes: tuple[str, ...] = ()
    exclude_ids: str = ""
    categories: str = ""
    exclude_categories: tuple[str, ...] = ()
    overlap: str = "auto"
    decisions: str = ""
    lists: tuple[str, ...] = ()
    vectors: str = ""
    upstream: str = published_files.URL

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, KINDS)
        _check_choice("overlap", self.overlap, ("auto", "on", "off"))
        for name in ("val_unseen_share", "test_unseen_share", "held_out_share"):
            value = getattr(self, name)
            if not 0 < value < 0.5:
                raise SettingsError(f"[split] {name}: found {value}, expected a share between 0 and 0.5")
        if (self.kind == "table") != bool(self.table):
            raise SettingsError(f"[split] table: found {self.table!r}, expected a file with kind = table only")
        if self.seed < 0:
            raise SettingsError(f"[split] seed: found {self.seed}, expected 0 or more")
        for name in FILES:
            object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))
        for entry, (name, path) in zip(self.lists, self.named_lists(), strict=True):
            if not name or not Path(path).is_file():
                raise SettingsError(f"[split] lists: found {entry!r}, expected name=FILE with one label a line in FILE")

    def named_lists(self) -> list[tuple[str, str]]:
        """-> (pre-training set, file of its labels)."""
        parts = [entry.partition("=") for entry in self.lists]
        return [(name.strip(), os.path.expanduser(path.strip())) for name, _, path in parts]

    def content(self) -> dict[str, Any]:
        """-> what changes the split: files by their content; where verified files come from does not matter."""
        values = asdict(self)
        del values["upstream"]
        for name in FILES:
            values[name] = identity(values[name], f"[split] {name}")
        values["lists"] = [(name, identity(path, "[split] lists")) for name, path in self.named_lists()]
        files = [Path(name).expanduser() for name in self.exclude_classes]
        values["exclude_classes"] = [*self.exclude_classes, *(identity(str(path)) for path in files if path.is_file())]
        return values

    def refuse_unused(self, dataset: str, kind: str, declared: bool) -> None:
        """Raise SettingsError for what is set and changes nothing: ``kind`` and ``declared`` roles say what does."""
        unused = (DRAWN if declared else ()) if kind == "curated" else CURATED
        found = [each.name for each in fields(self) if each.name in unused and getattr(self, each.name) != each.default]
        if found:
            how = "declares its classes' roles" if kind == "curated" else f"has a {kind} split"
            also = "" if kind == "curated" else ", or set [split] kind = curated"
            raise SettingsError(
                f"[split] {', '.join(found)}: found values that change nothing, since {dataset!r} {how}; expected the "
                f"defaults: remove them{also}"
            )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise SettingsError(f"[split] {name}: found {value!r}, expected one of {', '.join(choices)}")
