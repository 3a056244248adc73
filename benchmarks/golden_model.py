"""The methods against golden numbers: single steps (outputs, losses, gradients, updates, scores) and trajectories."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.parity_group import Group
from model import registry
from model.batches import TrainingData
from model.checkpoint import published_name
from model.embedding import EmbeddingModel, Sizes
from model.settings import Spec
from model.trainer import Trainer
from pipeline.deviations import DEVIATIONS

METHODS = ("avca", "ale", "sje", "devise", "apn", "cjme", "avgzslnet")
STEP_FILES = ("eval.npz", *(f"{method}_{kind}.npz" for method in METHODS for kind in ("f64", "f32")))
TRAJECTORIES = ("avca_published", "avca_plain", "avca_plain_recon", *METHODS[1:])
TRAJECTORY_FILES = ("table.npz", "fvaegan.npz", *(f"{name}.npz" for name in TRAJECTORIES))


def files(directory: Path) -> list[Path]:
    """-> the golden files of both formats under ``directory``."""
    names = set(STEP_FILES) | set(TRAJECTORY_FILES)
    return sorted(path for path in Path(directory).glob("set_*/*.npz") if path.name in names)


def applies(directory: Path) -> bool:
    """-> whether ``directory`` holds a recipe and files of the single-step or of the trajectory format."""
    return (Path(directory) / "recipe.py").is_file() and bool(files(directory))


def compare(directory: Path) -> list[Group]:
    """-> groups of every file; an array that no group compared is on its ignored list, with the reason."""
    from benchmarks import golden_fvaegan, golden_steps, golden_trajectory

    recipe = load_recipe(Path(directory) / "recipe.py")
    groups: list[Group] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for path in files(directory):
            if path.name == "fvaegan.npz":
                groups += golden_fvaegan.compare_file(path, recipe)
            elif path.name in STEP_FILES:
                groups += golden_steps.compare_file(path, recipe)
            else:
                groups += golden_trajectory.compare_file(path, recipe)
    finally:
        torch.set_num_threads(threads)
    return groups


def load_recipe(path: Path) -> ModuleType:
    """Import the recipe that defines inputs and initial weights. Raises FileNotFoundError."""
    spec = importlib.util.spec_from_file_location(f"recipe_of_{path.parent.name}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"{path}: no such recipe; expected it beside the folders set_*")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def specification(method: str, settings: Mapping[str, Any]) -> Spec:
    """-> the released architecture without dropout, with a set's momentum and norm_inputs (a recipe's SETS entry)."""
    base = vars(registry.hyper_parameters(method, "ucf", "selavi"))
    changed = {"encoder_dropout": 0.0, "projection_dropout": 0.0, "decoder_dropout": 0.0,
               "momentum": settings["momentum"], "normalise_inputs": settings["norm_inputs"]}
    return Spec(method=method, dataset="ucf", feature_set="", seed=0, device="cpu", **{**base, **changed})


def build(
    recipe: ModuleType, method: str, settings: Mapping[str, Any], dtype: torch.dtype,
    model_class: type[EmbeddingModel] | None = None, published: frozenset[str] = frozenset(DEVIATIONS),
) -> EmbeddingModel:
    """-> the model with the recipe's weights."""
    made = (model_class or registry.load(method))(
        Sizes(settings["da"], settings["dv"]), specification(method, settings), published
    )
    model = made.to(dtype)
    shapes = {key: released_shape(model, name, tuple(value.shape)) for name, key, value in entries(model)}
    weights = recipe.weights(shapes)
    model.load_state_dict({
        name: torch.from_numpy(np.asarray(weights[key])).reshape(value.shape).to(value.dtype)
        for name, key, value in entries(model)
    })
    return model


def released_shape(model: EmbeddingModel, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    shaped = getattr(model, "published_shape", None)
    return shaped(name, np.empty(shape, np.int8)).shape if shaped else shape


def entries(model: EmbeddingModel) -> list[tuple[str, str, torch.Tensor]]:
    """-> (our name, released key, value) of the state."""
    keys = model.published_keys()
    return [(name, published_name(name, keys), value) for name, value in model.state_dict().items()]


def trainer(model: EmbeddingModel, spec: Spec, arrays: Mapping[str, np.ndarray]) -> Trainer:
    """``arrays``: audio, video (N), row (N), class_vectors (C); -> a trainer in the model's precision."""
    dtype = next(model.parameters()).dtype
    data = TrainingData(*(torch.from_numpy(np.asarray(arrays[name])) for name in
                          ("audio", "video", "row", "class_vectors")))
    data = TrainingData(data.audio.to(dtype), data.video.to(dtype), data.row, data.class_vectors.to(dtype))
    return Trainer(model, data, spec, torch.device("cpu"))
