"""Single steps: everything that one batch makes, then three updates, in float64; outputs and losses in float32 too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.golden_comparison import Comparison, largest
from benchmarks.golden_model import build, entries, specification, trainer
from benchmarks.parity_group import Group
from model import metrics
from model.avca import AVCA
from model.baselines.apn import APN
from model.baselines.avgzslnet import AVGZSLNet
from model.baselines.bilinear import Bilinear
from model.baselines.cjme import CJME
from model.batches import Batch
from model.embedding import EmbeddingModel

Values = dict[str, np.ndarray]
# Relative to the largest entry of an array; the independent computation behind the golden numbers agrees to 2e-14.
TOLERANCES = {"outputs": 1e-10, "losses": 1e-10, "gradients": 1e-9, "updates": 1e-7, "running statistics": 1e-9}
# Gradients that are exactly 0 (biases in front of a batch norm) are computed as 1e-15 or so by everybody.
GRADIENT_FLOOR = 1e-5
SINGLE_PRECISION = {"outputs": 1e-5, "losses": 1e-5, "running statistics": 1e-5}
NO_GRADIENT = ("in front of a batch norm: its exact gradient is 0, so that Adam turns rounding noise into full steps, "
               "see 'Which Adam results are ill-conditioned' in the golden README")
ILL_CONDITIONED = {
    "cjme": tuple(f"triplet_net.embedding_net{i}.fc.0.bias" for i in (1, 2, 3)),
    "avgzslnet": (*(f"triplet_net.embedding_net{i}.fc.0.bias" for i in (1, 2, 3)),
                  "decoder_net.embedding_net.fc.0.bias"),
}


def compare_file(path: Path, recipe: ModuleType) -> list[Group]:
    comparison = Comparison(path, recipe)
    if path.name == "eval.npz":
        return compare_evaluation(comparison, recipe)
    method, _, kind = path.stem.partition("_")
    double = kind == "f64"
    values = compute(recipe, method, comparison.set_name, double)
    tolerances = TOLERANCES if double else SINGLE_PRECISION
    left_out = ILL_CONDITIONED.get(method, ())
    for key, golden in comparison.golden.items():
        if key not in values or (key.startswith("steps/params_") and key.split("/")[2] in left_out):
            continue
        group = group_of(key)
        scale = max(float(np.abs(golden).max()), GRADIENT_FLOOR if group == "gradients" else 1e-300)
        comparison.count(key, largest(golden, values[key]) / scale, tolerances[group], group)
    for key in left_out:
        comparison.ignore(f"steps/params_*/{key}/*", f"bias {NO_GRADIENT}")
    return comparison.finish()


def group_of(key: str) -> str:
    if "/grad/" in key:
        return "gradients"
    if "buffers_" in key:
        return "running statistics"
    if "/loss" in key:
        return "losses"
    return "updates" if key.startswith("steps/") else "outputs"


def compute(recipe: ModuleType, method: str, set_name: str, double: bool) -> Values:
    """-> our value of every key of a golden file; updates and gradients in double precision only."""
    settings = recipe.SETS[set_name]
    dtype = torch.float64 if double else torch.float32
    inputs = recipe.inputs(set_name)
    out: Values = {}
    for mode in ("eval", "train"):
        model = build(recipe, method, settings, dtype)
        model.train(mode == "train")
        one_batch(recipe, model, batch_of(inputs, dtype), f"{mode}/", double, out)
        if isinstance(model, AVCA):
            model = build(recipe, method, settings, dtype)
            model.train(mode == "train")
            embeddings(model, inputs, dtype, f"{mode}/get_embeddings/", out)
    if double:
        three_steps(recipe, method, set_name, dtype, out)
    return out


def batch_of(inputs: dict[str, np.ndarray], dtype: torch.dtype) -> Batch:
    def pair(name: str) -> Tensor:
        return torch.from_numpy(np.stack((inputs[name], inputs[f"{name}_neg"]), axis=1)).to(dtype)

    return Batch(pair("audio"), pair("video"), pair("text"), torch.from_numpy(inputs["label"]),
                 torch.from_numpy(inputs["class_text"]).to(dtype))


def one_batch(
    recipe: ModuleType, model: EmbeddingModel, batch: Batch, prefix: str, gradients: bool, out: Values
) -> None:
    """Outputs, loss terms, gradients and running statistics of one forward and backward pass."""
    describe: Callable[[Any, Batch], tuple[dict[str, Tensor], dict[str, Tensor]]]
    describe = {AVCA: avca, APN: apn, CJME: cjme, AVGZSLNet: avgzslnet}.get(type(model), bilinear)
    outputs, terms = describe(model, batch)
    out |= {prefix + key: value.detach().numpy() for key, value in outputs.items()}
    out |= {f"{prefix}loss/{key}": value.detach().numpy() for key, value in terms.items()}
    if gradients:
        terms["total"].backward()
        for name, key, _ in entries(model):
            parameter = dict(model.named_parameters()).get(name)
            if parameter is not None:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                record(recipe, out, f"{prefix}grad/{key}", gradient)
    buffers(recipe, model, f"{prefix}buffers_after_forward/", out)


def avca(model: AVCA, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    found = model(batch)
    attended = model.attend({"audio": found["phi_a"], "visual": found["phi_v"]})
    tokens = torch.stack((attended["audio"], attended["visual"]), dim=2)  # (B, 2 batches, 2 tokens, 300)
    outputs = {"phi_attn": tokens[:, 0], "phi_attn_neg": tokens[:, 1]}
    for name, value in found.items():
        outputs[name] = value[:, 0]
        if value.shape[1] > 1:
            outputs[f"{name}_neg"] = value[:, 1]
    terms = model.terms_of(found, batch.text[:, 0])
    total = torch.stack(list(terms.values())).sum()
    return outputs, {**terms, **grouped(terms), "total": total}


def grouped(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    names = dict.fromkeys(name.partition(".")[0] for name in terms)
    return {group: torch.stack([value for name, value in terms.items() if name.startswith(f"{group}.")]).sum()
            for group in names}


def bilinear(model: Bilinear, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    outputs = {"logits": model.logits(batch), "projected": model.project(batch.audio[:, 0], batch.video[:, 0])}
    return outputs, {"total": model.loss_terms(batch)["hinge"]}


def apn(model: APN, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    projected = model.project(batch.audio[:, 0], batch.video[:, 0])
    outputs = {f"pre_attri_{name}": value for name, value in projected.items()}
    outputs["output_final"] = model.scores(projected["final"], batch.class_vectors)
    outputs["pre_class_layer4"] = model.scores(projected["layer4"], batch.class_vectors)
    terms = model.loss_terms(batch)
    return outputs, {**terms, "total": torch.stack(list(terms.values())).sum()}


def cjme(model: CJME, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    found = model(batch)
    audio, video = model.hinges(found)
    terms = model.terms_of(found)
    attention = found["attention"][:, None]
    outputs = {**found, "attention": attention, "threshold_attention": (attention >= 0.5).to(attention.dtype)}
    return outputs, {"l_ta_per_sample": audio, "l_tv_per_sample": video, "l_av": terms["av"],
                     "total": torch.stack(list(terms.values())).sum()}


def avgzslnet(model: AVGZSLNet, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    found = model(batch)
    terms = model.terms_of(found, batch.text[:, 0])
    return found, {**terms, "total": torch.stack(list(terms.values())).sum()}


def embeddings(model: AVCA, inputs: dict[str, np.ndarray], dtype: torch.dtype, prefix: str, out: Values) -> None:
    audio, video, text = (torch.from_numpy(inputs[name]).to(dtype) for name in ("audio", "video", "class_text"))
    with torch.no_grad():
        found = {**model.embed(audio, video), "theta_w": model.embed_classes(text)}
    out |= {prefix + name: value.numpy() for name, value in found.items()}


def three_steps(recipe: ModuleType, method: str, set_name: str, dtype: torch.dtype, out: Values) -> None:
    """Three updates on the same batch, by the trainer that trains."""
    settings, inputs = recipe.SETS[set_name], recipe.inputs(set_name)
    model = build(recipe, method, settings, dtype)
    run = trainer(model, specification(method, settings), {
        "audio": np.concatenate((inputs["audio"], inputs["audio_neg"])),
        "video": np.concatenate((inputs["video"], inputs["video_neg"])),
        "row": np.concatenate((inputs["label"], inputs["label_neg"])), "class_vectors": inputs["class_text"],
    })
    size = len(inputs["label"])
    index = torch.arange(2 * size).view(2, size).T[:, : 2 if model.negatives else 1]
    model.train()
    after_step = model.after_step

    def watched(batch: Batch) -> None:
        if number == 1:
            buffers(recipe, model, "steps/buffers_after_step1_before_get_embeddings/", out)
        after_step(batch)

    model.after_step = watched  # type: ignore[method-assign]
    for number in (1, 2, 3):
        out[f"steps/loss_{number}"] = run.step(index).sum().numpy()
        for name, key, value in entries(model):
            if name in dict(model.named_parameters()):
                record(recipe, out, f"steps/params_{number}/{key}", value)
        buffers(recipe, model, f"steps/buffers_{number}/", out)
    model.eval()
    if isinstance(model, AVCA):
        embeddings(model, inputs, dtype, "steps/eval_after_3/", out)


def buffers(recipe: ModuleType, model: EmbeddingModel, prefix: str, out: Values) -> None:
    parameters = dict(model.named_parameters())
    for name, key, value in entries(model):
        if name not in parameters:
            array = value.numpy().copy()
            out[prefix + key] = recipe.strided(array) if array.ndim else array


def record(recipe: ModuleType, out: Values, key: str, value: Tensor) -> None:
    array = value.detach().numpy()
    out[f"{key}/norm"] = np.asarray(np.linalg.norm(array))
    out[f"{key}/sub"] = recipe.strided(array)


def compare_evaluation(comparison: Comparison, recipe: ModuleType) -> list[Group]:
    """Scores of given embeddings: the accuracies were made in float32, hence 1e-6."""
    for case in recipe.EVAL:
        given = recipe.eval_case(comparison.set_name, case)
        words = given["theta_w"].astype(np.float64)
        single = {name: np.linalg.norm(given[key].astype(np.float64)[:, None] - words, axis=2)
                  for name, key in (("video", "theta_v"), ("audio", "theta_a"))}
        for mode in ("video", "audio", "both"):
            for kind, power in (("L2Loss", 1), ("SquaredL2Loss", 2)):
                parts = single.values() if mode == "both" else (single[mode],)
                distances = sum(part**power for part in parts)
                assert isinstance(distances, np.ndarray)
                for key, value in evaluation_values(distances, given).items():
                    comparison.absolute(f"{case}/{mode}/{kind}/{key}", value, 1e-6, "accuracies")
    return comparison.finish()


def evaluation_values(distances: np.ndarray, given: dict[str, Any]) -> Values:
    seen, unseen = given["seen_ids"], given["unseen_ids"]
    found = metrics.evaluate(distances, given["targets"], seen, unseen)
    best = found.at_best()
    # the released entry "recall" holds the zero-shot recalls of all classes, zero for unused ids
    recall = np.zeros(given["n_all"])
    classes = np.union1d(seen, unseen)
    recall[classes] = metrics.recalls(found.predictions.zero_shot, given["targets"], classes)
    values = {
        "seen": best["seen"], "unseen": best["unseen"], "hm": best["harmonic_mean"], "zsl": best["zero_shot"],
        "beta": found.beta, "per_class_zsl_recall": recall, "per_beta/seen": found.seen,
        "per_beta/unseen": found.unseen, "per_beta/hm": found.harmonic_mean,
        "per_beta/zsl": np.full(len(found.betas), found.zero_shot),
        "min_margin": least_margin(distances, classes, seen, found.betas),
    }
    return {key: np.asarray(value) for key, value in values.items()}


def least_margin(distances: np.ndarray, classes: np.ndarray, seen: np.ndarray, betas: np.ndarray) -> float:
    """-> smallest gap between the nearest and the second nearest class over videos and betas."""
    gaps = []
    for beta in betas:
        nearest = np.partition(distances + beta * np.isin(classes, seen), 1, axis=1)
        gaps.append((nearest[:, 1] - nearest[:, 0]).min())
    return float(min(gaps))
