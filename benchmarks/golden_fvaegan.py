"""f-VAEGAN-D2 against golden one-step numbers: losses, gradients and parameters of two updates in float64."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.parity_group import Group
from model.baselines.fvaegan_networks import FvaeganSettings, Networks, Updates, generator_loss, latent

TOLERANCE = 1e-9
GRADIENT_TOLERANCE = 1e-7
EMBEDDING_SIZE = 300


def compare_file(path: Path, recipe: ModuleType) -> list[Group]:
    """Compare one ``fvaegan.npz``; its folder's name is the set, ``recipe`` defines inputs and initial weights.

    -> groups forward, loss, gradient, params. Deviations are relative to the largest entry of each array.
    """
    with np.load(path) as file:
        golden = {name: file[name] for name in file.files}
    ours = compute(recipe, Path(path).parent.name)
    tolerances = {"forward": TOLERANCE, "loss": TOLERANCE, "gradient": GRADIENT_TOLERANCE, "params": GRADIENT_TOLERANCE}
    groups = {name: Group(f"fvaegan {name}", 0, 0.0, tolerance, []) for name, tolerance in tolerances.items()}
    for key, wanted in golden.items():
        group = groups[group_name(key)]
        if key not in ours:
            group.ignored.append((key, "not computed here"))
            continue
        found = ours[key]
        if found.shape != wanted.shape:
            raise ValueError(f"{path}: {key}: found shape {found.shape} here, expected {wanted.shape}")
        scale = max(float(np.abs(wanted).max()), 1e-300)
        deviation = float(np.abs(found - wanted).max()) / scale if np.isfinite(found).all() else float("inf")
        group.compared += 1
        group.deviation = max(group.deviation, deviation)
    return list(groups.values())


def group_name(key: str) -> str:
    part = key.split("/")[1] if "/" in key else "forward"
    return "gradient" if part.startswith("grad") else part


def compute(recipe: ModuleType, name: str) -> dict[str, np.ndarray]:
    """-> our values of every key of the golden file, from the recipe's inputs and weights of one set."""
    inputs = {key: torch.from_numpy(value) for key, value in recipe.fvaegan_inputs(name).items()}
    x, c, n, e = inputs["x"], inputs["c"], inputs["n"], inputs["e"]
    networks = Networks(x.shape[1], EMBEDDING_SIZE, FvaeganSettings(), unpaired=True).double()
    weights = recipe.weights({key: tuple(value.shape) for key, value in networks.state_dict().items()})
    networks.load_state_dict({key: torch.from_numpy(np.asarray(value)) for key, value in weights.items()})
    updates = Updates(networks, FvaeganSettings(), summed=True)
    out = forward(recipe, networks, inputs)
    for step in (1, 2):
        prefix = f"step_{step}"
        losses = updates.critics(x, c, n, inputs["a"], inputs["a2"])
        for critic, values in losses.items():
            put(out, f"{prefix}/loss", {f"{critic}_x_mean": values["x_mean"], f"{critic}_f_mean": values["f_mean"],
                                        f"GP_{critic}": values["penalty"], f"L_{critic}": values["total"]})
            record_gradients(recipe, out, f"{prefix}/grad", networks, (critic,))
        if step == 1:
            single_terms(recipe, out, networks, inputs)
        last = updates.generator(x, c, n, e)
        put(out, f"{prefix}/loss", {"BCE": last["reconstruction"], "KL": last["divergence"], "D_r_mean": last["r_mean"],
                                    "D_fn_mean": last["f_mean"], "L_GE": last["total"]})
        record_gradients(recipe, out, f"{prefix}/grad", networks, ("E", "G"))
        for key, value in networks.state_dict().items():
            record(recipe, out, f"{prefix}/params/{key}", value)
    return out


def forward(recipe: ModuleType, networks: Networks, inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    x, c, n = inputs["x"], inputs["c"], inputs["n"]
    assert networks.D2 is not None
    with torch.no_grad():
        f = networks.G(n, c)
        mean, log_variance = networks.E(x, c)
        r = networks.G(latent(mean, log_variance, inputs["e"]), c)
        values = {"f": f, "r": r, "mu": mean, "lv": log_variance}
        out = {key: recipe.strided(value.numpy(), 997) for key, value in values.items()}
        out |= {"D_x": networks.D(x, c).numpy(), "D_f": networks.D(f, c).numpy()}
        out |= {"D2_x": networks.D2(x).numpy(), "D2_f": networks.D2(f).numpy()}
        for key, critic, mix, vector in (("D", networks.D, inputs["a"], c), ("D2", networks.D2, inputs["a2"], None)):
            gradient = critic.input_gradient(mix * x + (1 - mix) * f, vector)
            out[f"gp_{key}_grad_norms"] = gradient.norm(dim=1).numpy()
    return out


def single_terms(recipe: ModuleType, out: dict[str, np.ndarray], networks: Networks, inputs: dict[str, Tensor]) -> None:
    """Gradients of the VAE terms alone and of the GAN terms alone, unweighted, against the updated critics."""
    for name in ("vae", "gan"):
        networks.zero_grad()
        values = generator_loss(networks, inputs["x"], inputs["c"], inputs["n"], inputs["e"], FvaeganSettings(), True)
        vae, gan = values["reconstruction"] + values["divergence"], -values["r_mean"] - values["f_mean"]
        (vae if name == "vae" else gan).backward()
        # the encoder's reach is part of both; the noise path reaches G alone
        record_gradients(recipe, out, f"step_1/grad_{name}", networks, ("E", "G"))
    networks.zero_grad()


def record_gradients(
    recipe: ModuleType, out: dict[str, np.ndarray], prefix: str, networks: nn.Module, names: tuple[str, ...]
) -> None:
    for key, parameter in networks.named_parameters():
        if key.split(".")[0] in names and parameter.grad is not None:
            record(recipe, out, f"{prefix}/{key}", parameter.grad)


def record(recipe: ModuleType, out: dict[str, np.ndarray], key: str, value: Tensor) -> None:
    array = value.detach().numpy()
    out[f"{key}/norm"] = np.asarray(np.linalg.norm(array))
    out[f"{key}/sub"] = recipe.strided(array)


def put(out: dict[str, np.ndarray], prefix: str, values: dict[str, Tensor]) -> None:
    out.update({f"{prefix}/{key}": value.detach().numpy() for key, value in values.items()})
