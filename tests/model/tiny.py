"""A benchmark so small that two stages train on it in a second, with features that follow the class vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from model.protocol import Benchmark
from model.registry import specification
from model.settings import Spec
from pipeline import h5, schemas

ROLES = ("train",) * 5 + ("val_unseen",) * 2 + ("test_unseen",) * 2 + ("unused",)
PER_SUBSET = {"train": 6, "val_seen": 3, "val_unseen": 6, "test_seen": 3, "test_unseen": 5}
SUBSETS_OF = {"train": ("train", "val_seen", "test_seen"), "val_unseen": ("val_unseen", "test_seen"),
              "test_unseen": ("test_unseen",), "unused": ()}


def benchmark(audio_size: int = 12, video_size: int = 16, seed: int = 0, **columns) -> Benchmark:
    """-> 10 classes (5 train, 2 + 2 unseen, 1 unused), 98 videos; ``columns`` replace what is made."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((len(ROLES), 300))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels, subsets = [], []
    for label, role in enumerate(ROLES):
        for subset in SUBSETS_OF[role]:
            labels += [label] * PER_SUBSET[subset]
            subsets += [subset] * PER_SUBSET[subset]
    order = random.permutation(len(labels))
    label, subset = np.array(labels)[order], np.array(subsets)[order]

    def features(width: int) -> np.ndarray:
        mix = random.standard_normal((300, width))
        noisy = vectors[label] @ mix + 0.3 * random.standard_normal((len(label), width))
        return np.maximum(noisy, 0).astype(np.float32)

    made = {
        "class_name": np.array([f"class {k}" for k in range(len(ROLES))]), "class_role": np.array(ROLES),
        "class_vector": vectors.astype(np.float32), "id": np.array([f"v{k:03d}" for k in range(len(label))]),
        "class_index": label.astype(np.int64), "subset": subset,
        "audio": features(audio_size), "video": features(video_size),
        "content": "tiny", "video_list": "tiny list",
    }
    return Benchmark(**{**made, **columns})


def spec(method: str = "avca", seed: int = 0, **changes) -> Spec:
    """-> a specification with four epochs of three batches of 16 (f-VAEGAN: five, a generator's turn)."""
    batches = 5 if method == "fvaegan" else 3
    short = {"epochs": 4, "batches_per_epoch": batches, "batch_size": 16, "device": "cpu",
             "hidden_size": 24, "projection_hidden_size": 20, "synthetic_per_class": 10, "feature_set": "tiny"}
    return replace(specification(method, "ucf", "selavi", seed), **{**short, **changes})


def write(path: Path, given: Benchmark | None = None) -> Path:
    """Write a benchmark artefact."""
    given = given or benchmark()
    with h5.Output(path, schemas.BENCHMARK).create() as file:
        for name in ("class_name", "class_role", "class_vector", "id", "subset", "video", "audio"):
            value = getattr(given, name)
            file.write(name, value.tolist() if value.dtype.kind == "U" else value)
        file.write("class_text", given.class_name.tolist())
        file.write("class_index", given.class_index.astype(np.int32))
        for name in ("failed_id", "failed_subset", "failed_reason", "failed_detail"):
            file.write(name, [])
        file.write("failed_class_index", np.zeros(0, np.int32))
        file.attributes["video_list_sha256"] = given.video_list
    return path
