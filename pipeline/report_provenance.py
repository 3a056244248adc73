"""What the page says about where its numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.results import Group, Result


def dataset_facts(name: str) -> dict[str, str]:
    from pipeline.datasets import DATASETS

    dataset = DATASETS.get(name)
    return {"name": name, "title": dataset.title if dataset else name, "citation": dataset.citation if dataset else "",
            "licence": dataset.licence if dataset else "not known here"}


def environment_facts(results: Sequence[Result]) -> dict[str, list[str]]:
    """-> package -> versions, and versions of this code, that the scores were made with."""
    found: dict[str, list[str]] = {}
    for result in results:
        made = result.attributes["scores"].get("provenance") or {}
        for name, version in {"this project": made.get("code", "unknown"), **made.get("versions", {})}.items():
            found.setdefault(name, [])
            if version not in found[name]:
                found[name].append(version)
    return found


def provenance(group: Group) -> dict[str, Any]:
    """-> settings, artefacts with digest and content id, weights, of one group."""
    first = group.first
    artefacts = []
    for result in group.results:
        for name in ("benchmark", "split", "stage1", "stage2", "scores"):
            if name not in result.attributes:
                continue
            facts = result.attributes[name]
            row = {"name": name, "seed": str(result.seed) if name in ("stage1", "stage2", "scores") else "",
                   "file": getattr(result.entry, name).name, "digest": str(facts.get("digest", "")),
                   "content": str(facts.get("content_sha256", ""))}
            if row not in artefacts:
                artefacts.append(row)
    weights = first.attributes["benchmark"].get("weights")
    spec = first.attributes["scores"].get("spec") or {}
    return {
        "artefacts": artefacts,
        "weights": [{"slot": slot, **{k: str(entry.get(k, "")) for k in ("name", "sha256", "source", "licence")}}
                    for slot, entry in sorted(weights.items()) if isinstance(entry, dict)]
        if isinstance(weights, dict) else [],
        "published": list(first.fact("published") or ()),
        "spec": sorted((name, str(value)) for name, value in spec.items() if name != "seed"),
        "parameters": first.attributes["scores"].get("parameters", ""),
        "gflops": first.attributes["scores"].get("gflops"),
        "chosen_epochs": [int(r.attributes["stage1"].get("chosen_epoch", -1)) + 1 for r in group.results],
        "video_list": str(first.attributes["benchmark"].get("video_list_sha256", "")),
        "split": str(first.attributes["benchmark"].get("split", "")),
        "labels": str(first.attributes["benchmark"].get("labels", "")),
    }
