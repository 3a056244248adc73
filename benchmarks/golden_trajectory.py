"""Trajectories: 100 updates from given weights and batches in float64, with evaluations on the way."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from benchmarks.golden_comparison import Comparison
from benchmarks.golden_model import build, entries, specification, trainer
from benchmarks.golden_steps import grouped, least_margin
from benchmarks.parity_group import Group
from model import metrics
from model.avca import AVCA, LETTER
from model.baselines.apn import APN
from model.baselines.cjme import CJME
from model.batches import Batch
from model.embedding import EmbeddingModel
from pipeline.deviations import DEVIATIONS

Values = dict[str, np.ndarray]
# README of the golden numbers: "sound tolerance (float64, every step)".
TOLERANCES = {
    "avca": {"losses": 1e-8, "terms": 1e-7, "embeddings": 1e-7, "norms": 1e-6},
    "cjme": {"losses": 1e-10, "terms": 1e-9, "embeddings": 1e-8, "norms": 1e-6},
    "avgzslnet": {"losses": 1e-10, "terms": 1e-9, "embeddings": 1e-8, "norms": 1e-6},
}
LINEAR = dict.fromkeys(("losses", "terms", "embeddings", "norms"), 1e-10)
ACCURACIES = 1e-9
LOSS_FLOOR = 1e-3
OUTPUTS = {"theta_v": "", "projection": "", "both": "both/", "audio": "audio/", "video": "video/"}


class PlainWithReconstructions(AVCA):
    """The corrected model, plus the released pass of the reconstructions through the projections."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out = super().forward(batch)
        if self.training:
            self.observe_reconstructions({name: out[f"phi_{LETTER[name]}_rec"] for name in self.branches})
        return out


VARIANTS = {
    "avca_published": (AVCA, frozenset(DEVIATIONS)),
    "avca_plain": (AVCA, frozenset(DEVIATIONS) - {"batchnorm_passes", "position_offset"}),
    "avca_plain_recon": (PlainWithReconstructions, frozenset(DEVIATIONS) - {"batchnorm_passes", "position_offset"}),
}


def compare_file(path: Path, recipe: ModuleType) -> list[Group]:
    comparison = Comparison(path, recipe)
    if path.name == "table.npz":
        return compare_data(comparison, recipe)
    with np.load(path.parent / "table.npz") as table:
        positive, negative = table["positive"].astype(np.int64), table["negative"].astype(np.int64)
    method = path.stem.partition("_")[0]
    tolerances = TOLERANCES.get(method, LINEAR)
    values = compute(recipe, path.stem, comparison.set_name, positive, negative)
    for key in ("param", "buffer"):
        names = f"{key}_keys"
        if names in comparison.golden:
            norms = values[f"{key}_norms"].item()
            comparison.exact(names, [name for name in comparison[names].tolist() if name in norms])
            comparison.relative(f"{key}_norms_100", np.array([norms[name] for name in comparison[names].tolist()]),
                                tolerances["norms"], "norms")
    for key in sorted(comparison.left):
        if key not in values:
            continue
        if "/emb/" in key:
            comparison.relative(key, values[key], tolerances["embeddings"], "embeddings")
        elif key == "loss" or key.startswith("terms_"):
            group = "losses" if key == "loss" else "terms"
            base = np.maximum(np.abs(comparison[key]), LOSS_FLOOR)
            deviation = float(np.max(np.abs(values[key] - comparison[key]) / base))
            comparison.count(key, deviation, tolerances[group], group)
        elif "gap" in key or "margin" in key:
            comparison.absolute(key, values[key], 1e-7, "margins")
        else:
            comparison.absolute(key, values[key], ACCURACIES, "accuracies")
    return comparison.finish()


def compare_data(comparison: Comparison, recipe: ModuleType) -> list[Group]:
    """The recipe's own arrays: whoever can't make them to the bit need not look at the rest."""
    data = recipe.dataset(comparison.set_name)
    for name in ("train_audio", "train_video", "test_audio", "test_video", "class_text"):
        comparison.relative(f"{name}/norm", np.linalg.norm(data[name]), 1e-12, "data")
        comparison.relative(f"{name}/sub", recipe.strided(data[name]), 0.0, "data")
        comparison.exact(f"{name}/sha256", hashlib.sha256(np.ascontiguousarray(data[name]).tobytes()).hexdigest())
    for name in ("train_label", "test_label", "seen", "unseen"):
        comparison.exact(name, data[name])
    for name, made in zip(("positive", "negative"), recipe.table(comparison.set_name), strict=True):
        comparison.exact(name, made)
    return comparison.finish()


def compute(recipe: ModuleType, name: str, set_name: str, positive: np.ndarray, negative: np.ndarray) -> Values:
    """-> our value of every key; ``param_norms`` and ``buffer_norms`` hold a dictionary by released key."""
    settings, data = recipe.SETS[set_name], recipe.dataset(set_name)
    method = name.partition("_")[0]
    model_class, published = VARIANTS.get(name, (None, frozenset(DEVIATIONS)))
    model = build(recipe, method, settings, torch.float64, model_class, published)
    row = np.full(len(data["train_label"]), -1)
    of_seen = np.isin(data["train_label"], data["seen"])
    row[of_seen] = np.searchsorted(data["seen"], data["train_label"][of_seen])
    run = trainer(model, specification(method, settings), {
        "audio": data["train_audio"], "video": data["train_video"], "row": row,
        "class_vectors": data["class_text"][data["seen"]],
    })
    out: Values = {}
    gaps: list[float] = []
    if isinstance(model, CJME):
        watch_entropy(model, gaps)
    losses = []
    evaluation(recipe, model, data, "eval_0", out)
    for step in range(1, recipe.STEPS + 1):
        model.train()
        run.set_rate(recipe.LR if step <= recipe.DROP_AFTER else recipe.LR_DROPPED)
        index = torch.from_numpy(np.stack((positive[step - 1], negative[step - 1]), axis=1))
        terms = run.step(index if model.negatives else index[:, :1])
        losses.append(terms.sum().item())
        if step in recipe.TERMS_AT:
            named = dict(zip(run.names, terms, strict=True))
            named |= grouped(named) if isinstance(model, AVCA) else {}
            out |= {f"terms_{step}/{key}": value.numpy() for key, value in named.items()}
        if step in recipe.EVAL_AT:
            evaluation(recipe, model, data, f"eval_{step}", out)
    out["loss"] = np.array(losses)
    out["entropy_min_gap_to_threshold"] = np.asarray(min(gaps, default=np.nan))
    parameters = dict(model.named_parameters())
    norms = {key: float(value.double().norm()) for _, key, value in entries(model)}
    owned = {key for ours, key, _ in entries(model) if ours in parameters}
    out["param_norms"] = np.asarray({key: norm for key, norm in norms.items() if key in owned}, dtype=object)
    out["buffer_norms"] = np.asarray({key: norm for key, norm in norms.items() if key not in owned}, dtype=object)
    return out


def watch_entropy(model: CJME, gaps: list[float]) -> None:
    """Note how near each step's entropies come to a threshold of the attention's target."""
    from model.baselines.cjme import ENTROPY_GAP, entropies

    terms_of = model.terms_of

    def watched(found: dict[str, Tensor]) -> dict[str, Tensor]:
        audio, video = entropies(found)
        gaps.append(float(((audio - video).abs() - ENTROPY_GAP).abs().min()))
        return terms_of(found)

    model.terms_of = watched  # type: ignore[method-assign]


def evaluation(
    recipe: ModuleType, model: EmbeddingModel, data: dict[str, np.ndarray], prefix: str, out: Values
) -> None:
    """Scores and embeddings of the evaluation videos over all classes, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        audio, video, text = (torch.from_numpy(data[key]) for key in ("test_audio", "test_video", "class_text"))
        embedded, classes = model.embed(audio, video), model.embed_classes(text)
        distances = model.distances(embedded, classes)
        if isinstance(model, APN):
            embedded = {f"pre_attri_{name}": value for name, value in model.project(audio, video).items()}
    for output, place in OUTPUTS.items():
        if output in distances:
            accuracies(recipe, distances[output].numpy(), data, f"{prefix}/{place}", out)
    for name, value in named_embeddings(model, embedded, classes).items():
        array = value.numpy()
        out |= {f"{prefix}/emb/{name}/norm": np.asarray(np.linalg.norm(array)),
                f"{prefix}/emb/{name}/sub": recipe.strided(array),
                f"{prefix}/emb/{name}/rows": np.linalg.norm(array, axis=1),
                f"{prefix}/emb/{name}/cols": np.linalg.norm(array, axis=0)}
    if "attention" in embedded:
        out[f"{prefix}/attention_min_gap_to_half"] = (embedded["attention"] - 0.5).abs().min().numpy()


def named_embeddings(model: EmbeddingModel, embedded: dict[str, Tensor], classes: Tensor) -> dict[str, Tensor]:
    if isinstance(model, AVCA):
        return {**embedded, "theta_w": classes}
    if isinstance(model, APN):
        return embedded
    if "projection" in embedded:
        return {"projected": embedded["projection"]}
    found = {"a": embedded["audio"], "v": embedded["video"], "t": classes}
    return found | ({"attention": embedded["attention"][:, None]} if "attention" in embedded else {})


def accuracies(
    recipe: ModuleType, distances: np.ndarray, data: dict[str, np.ndarray], prefix: str, out: Values
) -> None:
    seen, unseen = data["seen"], data["unseen"]
    found = metrics.evaluate(distances, data["test_label"], seen, unseen, recipe.BETAS)
    best = found.at_best()
    values = {
        "seen": best["seen"], "unseen": best["unseen"], "hm": best["harmonic_mean"], "zsl": best["zero_shot"],
        "beta": found.beta, "per_beta": np.stack((found.seen, found.unseen, found.harmonic_mean), axis=1),
        "min_margin": least_margin(distances, np.union1d(seen, unseen), seen, recipe.BETAS),
    }
    out |= {prefix + key: np.asarray(value) for key, value in values.items()}
