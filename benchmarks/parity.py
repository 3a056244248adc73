"""Compare this code with golden numbers: ``python benchmarks/parity.py DIR [DIR ...] [--device cpu|cuda[:i]]``.

DIR holds a ``recipe.py`` and, beside it, every ``set_*`` folder. One line per group with the largest deviation and its
tolerance, then the arrays that were not compared and why. Exit status 1 if a deviation is above its tolerance, if an
array is missing or none of ours is compared with it, or if a file or folder is of no known kind or holds nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.golden_comparison import Missing
from benchmarks.parity_group import Group

KINDS = ("golden_extractors", "golden_model")


def compare(directory: Path, device: str) -> list[Group]:
    """-> groups of all kinds of golden files that ``directory`` holds."""
    groups: list[Group] = []
    known: set[Path] = set()
    for kind in KINDS:
        module = importlib.import_module(f"benchmarks.{kind}")
        if module.applies(directory):
            known |= set(module.files(directory))
            arguments = (directory, device) if kind == "golden_extractors" else (directory,)
            try:
                groups += module.compare(*arguments)
            except (Missing, FileNotFoundError) as error:
                lacking = error.key if isinstance(error, Missing) else error.filename
                groups.append(Group(f"{kind}: stopped where {lacking} is missing", 0, float("inf"), 0.0, []))
    for folder in sorted(directory.glob("set_*")):
        unknown = [path for path in sorted(folder.iterdir()) if path not in known] if folder.is_dir() else [folder]
        failures = [f"{path.relative_to(directory)}: a file of no known kind" for path in unknown]
        if not any(path.parent == folder for path in known):
            failures.append(f"{folder.name}: holds nothing that can be compared")
        groups += [Group(each, 0, float("inf"), 0.0, []) for each in failures]
    return groups


def report(groups: list[Group]) -> bool:
    """Print one line per group and the ignored arrays; -> whether all are within tolerance and any was compared."""
    good = any(group.compared for group in groups)
    width = max((len(group.name) for group in groups), default=0)
    for group in groups:
        within = group.deviation <= group.tolerance
        good = good and within
        print(
            f"{'ok  ' if within else 'FAIL'} {group.name:<{width}} {group.compared:4d} arrays, "
            f"deviation {group.deviation:.2e}, tolerance {group.tolerance:.2e}"
        )
    for group in groups:
        for key, reason in group.ignored:
            print(f"ignored: {group.name.partition(':')[0]} {key}: {reason}")
    compared, ignored = sum(group.compared for group in groups), sum(len(group.ignored) for group in groups)
    print(f"{compared} arrays compared, {ignored} ignored: {'ok' if good else 'FAIL'}")
    return good


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="+", type=Path)
    where = "where the extractors' networks run: cpu, cuda or cuda:<i> (the methods' steps run on the CPU)"
    parser.add_argument("--device", default="cpu", help=where)
    chosen = parser.parse_args(arguments)
    good = True
    for directory in chosen.directory:
        print(f"{directory}")
        if not directory.is_dir():
            print(f"FAIL {directory}: no such folder; expected one with recipe.py and set_*")
            good = False
            continue
        groups = compare(directory, chosen.device)
        if not groups:
            print("FAIL nothing to compare: found no recipe.py with set_*/*.npz of a known kind")
        good = report(groups) and good if groups else False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
