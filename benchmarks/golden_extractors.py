"""The extractors against golden outputs of the published code: windows, preprocessing, networks, whole chains.

The weights are written with torch.save in the published layouts and come back through our own loader.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from benchmarks import golden_extractor_inputs as inputs
from benchmarks.golden_comparison import Comparison
from benchmarks.parity_group import Group
from extractors import base
from extractors.audio import selavi_spectrogram, vggish_codes, vggish_pca
from extractors.frames import selavi_frames
from extractors.settings import ExtractionSettings, WeightsSettings
from extractors.weights import Store
from pipeline import crops, windows

# Largest difference by the largest golden magnitude.
FEATURE_TOLERANCE = {"cpu": 2e-5, "cuda": 2e-4}
# A code may step by one where the projection is next to a whole number: at most this share of them.
CODE_SHARE = 0.02
# Tensors of the manifest that no feature needs: the classifiers.
HEADS = ("mlp_", "fc8.")


class Networks:
    """The four extractors with a recipe's weights, each loaded, and arranged for the device, when first asked for."""

    def __init__(self, recipe: ModuleType, folder: Path, device: str = "cpu"):
        self.device = torch.device(device)
        self.settings = ExtractionSettings(threads=torch.get_num_threads())
        self.tolerance = FEATURE_TOLERANCE[self.device.type]
        write_weights(recipe, folder)
        spelling = f"vggish={folder / 'embeddings.pth'}"
        self.store = Store(WeightsSettings(source="published", folder=str(folder), fetch=False))
        self.respelled = Store(WeightsSettings(source="published", folder=str(folder), choose=(spelling,), fetch=False))
        self.made: dict[str, base.Extractor] = {}

    def __getitem__(self, name: str) -> base.Extractor:
        if name not in self.made:
            self.made[name] = base.place(self.loaded(name), self.device, self.settings)
        return self.made[name]

    def loaded(self, name: str) -> base.Extractor:
        """-> an extractor as the file has it."""
        return base.build(name, self.store, frozenset({"vggish_codes"}), "ucf")

    def run(self, name: str, x: torch.Tensor, stages: dict[str, np.ndarray] | None = None) -> np.ndarray:
        """Network input -> network output, one row at a time; ``stages`` is filled with the layers that it names."""
        extractor = self[name]
        hooks = []
        for layer in stages or {}:
            def keep(module, given, out, layer=layer) -> None:
                stages[layer] = out.float().cpu().numpy()  # type: ignore[index]
            hooks.append(extractor.network.get_submodule(layer).register_forward_hook(keep))
        with base.arithmetic(self.device, self.settings):
            batches = [x] if stages else x.split(1)  # layers are recorded of the whole input
            rows = torch.cat([base.network_of(extractor, each.to(self.device), self.settings) for each in batches])
        for hook in hooks:
            hook.remove()
        return rows.float().cpu().numpy()


def write_weights(recipe: ModuleType, folder: Path) -> None:
    """Save a recipe's weights under the published names, heads and both spellings of VGGish included."""

    def tensors(state: dict) -> dict:
        return {key: torch.from_numpy(np.array(value)) for key, value in state.items()}

    selavi = recipe.selavi_checkpoint(heads=10)
    torch.save({**selavi, "model": tensors(selavi["model"])}, folder / "selavi_vgg_sound.pth")
    torch.save(tensors(recipe.c3d_checkpoint()), folder / "c3d.pickle")
    state = tensors(recipe.vggish_checkpoint())
    torch.save(state, folder / "pytorch_vggish.pth")
    torch.save({key.replace("fc.", "embeddings."): value for key, value in state.items()}, folder / "embeddings.pth")
    np.savez(folder / "vggish_pca_params.npz", **recipe.pca_params())


def noise(
    file: Comparison, networks: Networks, key: str, name: str, extractor: str, shape: tuple[int, ...], *moments: float
) -> np.ndarray:
    """Compare hash and layers of the noise input ``name`` of a network; -> the network's output."""
    x = file.recipe.normal_input(file.set_name, name, shape, *moments)
    file.exact(f"{key}/input_sha256", file.recipe.sha256_of(x))
    start = f"{key}/stage/"
    stages = {each[len(start) :]: np.empty(0) for each in file.golden if each.startswith(start)}
    out = networks.run(extractor, torch.from_numpy(x), stages)
    for layer, values in stages.items():
        file.stage(f"{key}/stage/{layer}", values, networks.tolerance)
    return out


def selavi_net(file: Comparison, networks: Networks) -> None:
    for key in file.names("/feature"):
        video = key.startswith("video")
        shape = (1, 3, 30, 112, 112) if video else (1, 1, 257, 99)
        moments = () if video else (0.3, 0.6)
        out = noise(file, networks, key, f"selavi_{key}", "selavi_video" if video else "selavi_audio", shape, *moments)
        file.relative(f"{key}/feature", out[0], networks.tolerance)
    if not file.has("e2e/"):
        return
    facts = file["e2e/n_frames_fps_tick_H_W_nsamples"]
    count, tick, height, width, length = (int(facts[index]) for index in (0, 2, 3, 4, 5))
    frames = file.recipe.frames_uint8(file.set_name, "selavi_e2e_frames", count, height, width)
    wave = file.recipe.waveform_int16(file.set_name, "selavi_e2e_wave", 44100, length)
    file.exact("e2e/frames_sha256", file.recipe.sha256_of(frames))
    file.exact("e2e/wave_sha256", file.recipe.sha256_of(wave))
    video_time = inputs.timeline(count, float(facts[1]), tick)
    chosen = windows.selavi_frames(video_time, length / 44100, inputs.PUBLISHED).frames
    small = torch.from_numpy(crops.selavi_crop(frames)[chosen])
    first = windows.selavi_audio(video_time, length, inputs.PUBLISHED).first
    clips = torch.from_numpy(np.stack([wave[start : start + 44100] for start in first]).astype(np.float32))
    rows = {
        "video": networks.run("selavi_video", selavi_frames(small)),
        "audio": networks.run("selavi_audio", selavi_spectrogram(clips)),
    }
    for modality, features in rows.items():
        file.relative(f"e2e/per_clip_{modality}", features, networks.tolerance)
        file.relative(f"e2e/{modality}", features.mean(axis=0), networks.tolerance)
    file.settings("e2e/n_frames_fps_tick_H_W_nsamples")


def c3d_net(file: Comparison, networks: Networks) -> None:
    for key in file.names("/feature"):
        out = noise(file, networks, key, f"c3d_{key}", "c3d", (1, 3, 16, 112, 112))
        file.relative(f"{key}/feature", out[0], networks.tolerance)
    if not file.has("e2e/"):
        return
    count, height, width = (int(value) for value in file["e2e/N_H_W"])
    frames = file.recipe.frames_uint8(file.set_name, "c3d_e2e_frames", count, height, width)
    file.exact("e2e/frames_sha256", file.recipe.sha256_of(frames))
    for mode in (each for each in inputs.C3D_MODES if file.has(f"e2e/{each}/")):
        rows = networks.run("c3d", inputs.c3d_clips(frames, mode))
        file.relative(f"e2e/{mode}/average", rows.mean(axis=0), networks.tolerance)
        file.relative(f"e2e/{mode}/per_clip_subset_::16", rows[:, ::16], networks.tolerance)
    file.settings("e2e/N_H_W")


def vggish_net(file: Comparison, networks: Networks) -> None:
    spectrograms = file.path.with_name("vggish_pre.npz")
    shapes = dict(np.load(spectrograms)) if spectrograms.is_file() else {}
    for key in file.names("/embedding"):
        name = key.partition("/")[0]
        if key != name and not key.endswith(inputs.OUR_RELEASE):
            continue
        if key.startswith("noise"):
            out = noise(file, networks, key, f"vggish_{key}", "vggish", (2, 1, 96, 64), -1.5, 1.5)
        elif f"{name}/rate_samples_channels" in shapes:
            facts = shapes[f"{name}/rate_samples_channels"].tolist()
            out = networks.run("vggish", inputs.vggish_input(inputs.vggish_sound(file, name, *facts)[1]))
        else:
            file.fail(key, f"{spectrograms.name} beside it does not say what sound {name} is")
            continue
        file.relative(f"{key}/embedding", out, networks.tolerance)
        compare_codes(file, networks, key, torch.from_numpy(out))
    inputs.ignore_other_releases(file)
    respelled = base.build("vggish", networks.respelled, frozenset(), "ucf").network.state_dict()
    for tensor, value in networks.loaded("vggish").network.state_dict().items():
        file.count("", 0.0 if torch.equal(value.cpu(), respelled[tensor]) else float("inf"), 0.0, "other spelling")


def compare_codes(file: Comparison, networks: Networks, key: str, embedding: torch.Tensor) -> None:
    """PCA, 8-bit codes and their average."""
    extractor = networks["vggish"]
    parameters = extractor.get_buffer("eigenvectors").cpu(), extractor.get_buffer("means").cpu()
    file.relative(f"{key}/pca_before_clip", vggish_pca(embedding, *parameters).numpy(), networks.tolerance, "PCA")
    codes = vggish_codes(embedding, *parameters).numpy()
    apart = np.abs(codes - file[f"{key}/uint8"].astype(np.float32))
    share = float((apart > 0).mean()) if apart.max() <= 1 else float("inf")
    file.count(f"{key}/uint8", share, CODE_SHARE, "codes one apart, share")
    if not key.startswith("noise"):
        allowed = apart.sum(axis=0) / len(codes) + 1e-9
        difference = np.abs(codes.mean(axis=0, dtype=np.float64) - file[f"{key}/uint8_average"])
        file.count(f"{key}/uint8_average", float((difference / allowed).max()), 1.0, "average of codes, by allowance")


NETWORK_FILES: dict[str, Callable[[Comparison, Networks], None]] = {
    "selavi_net": selavi_net,
    "c3d_net": c3d_net,
    "vggish_net": vggish_net,
}


def compare_manifest(path: Path, networks: Networks) -> list[Group]:
    """Every tensor that our loader gives against the list of the recipe's tensors: shape, first values, sum."""
    listed = json.loads(path.read_text())
    group = Group("checkpoint_manifest: loaded tensors", 0, 0.0, 1e-6, [])
    ours: dict[str, dict[str, torch.Tensor]] = {"selavi": {}, "pca": {}}
    for modality in ("video", "audio"):
        for key, value in networks.loaded(f"selavi_{modality}").network.state_dict().items():
            ours["selavi"][f"{modality}_network.base.{key}"] = value
    ours["c3d"], ours["vggish"] = (networks.loaded(name).network.state_dict() for name in ("c3d", "vggish"))
    ours["pca"]["pca_eigen_vectors"] = networks["vggish"].get_buffer("eigenvectors")
    ours["pca"]["pca_means"] = networks["vggish"].get_buffer("means")
    failures = []
    for network, tensors in ours.items():
        facts = listed.get(network, {})
        counters = {key for key in tensors if key.endswith("num_batches_tracked")}
        failures += [f"{network}, {key} is not listed" for key in sorted(set(tensors) - set(facts) - counters)]
        for key, (shape, first, total) in ((key, each[:3]) for key, each in facts.items()):
            if key in tensors:
                x = tensors[key].cpu().numpy()
                wanted, found = np.array([*first, total]), np.array([*x.ravel()[: len(first)], x.sum(dtype=np.float64)])
                apart = np.abs(wanted - found) / np.maximum(np.abs(wanted), 1e-3)
                group.deviation = max(group.deviation, float(apart.max()) if list(x.shape) == shape else float("inf"))
                group.compared += 1
            elif key.startswith(HEADS):
                group.ignored.append((key, "the classifier, which no feature needs"))
            else:
                failures.append(f"{network}, {key} is listed, but our loader gives no such tensor")
    return [group, *(Group(f"checkpoint_manifest: {each}", 0, float("inf"), 0.0, []) for each in failures)]


def load_recipe(path: Path) -> ModuleType:
    """-> the module of a ``recipe.py``."""
    spec = importlib.util.spec_from_file_location("golden_extractors_recipe", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(directory: Path) -> list[Path]:
    """-> the golden files of the extractors in every ``set_*`` of ``directory``."""
    known = {*inputs.FILES, *NETWORK_FILES}
    return sorted(path for path in directory.glob("set_*/*.npz") if path.stem in known)


def applies(directory: Path) -> bool:
    """Whether ``directory`` holds golden files of the extractors: ``recipe.py`` and a ``set_*`` with one of them."""
    return (directory / "recipe.py").is_file() and bool(files(directory))


def compare(directory: Path, device: str = "cpu") -> list[Group]:
    """-> every group of every file of every set in ``directory``, and of its checkpoint manifest if it has one."""
    recipe = load_recipe(directory / "recipe.py")
    groups: list[Group] = []
    with tempfile.TemporaryDirectory() as folder:
        networks = functools.cache(lambda: Networks(recipe, Path(folder), device))
        for path in files(directory):
            file = Comparison(path, recipe)
            with file.complete():
                if path.stem in inputs.FILES:
                    inputs.FILES[path.stem](file)
                else:
                    NETWORK_FILES[path.stem](file, networks())
            groups += file.finish()
        manifest = directory / "checkpoint_manifest.json"
        if manifest.is_file():
            groups += compare_manifest(manifest, networks())
    return groups
