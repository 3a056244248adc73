"""t-SNE of features and embeddings of a few classes, as in the paper's figures 3 to 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.plots import Cloud

# The classes of figures 3 (UCF), 4 (VGGSound) and 5 (ActivityNet), letters and digits of their names
FIGURE_CLASSES = {
    "ucf": ("babycrawling", "basketballdunk", "bowling", "bandmarching", "playingflute"),
    "activitynet": ("scubadiving", "playingcongas", "wakeboarding", "camelride", "makingacake"),
    "vggsound": ("strikingbowling", "playingsquash", "playingtimpani", "elephanttrumpeting", "woodthrushcalling"),
}


@dataclass(frozen=True)
class Choice:
    """``classes``: chosen ids, seen ones first; ``unseen`` beside them; ``rows``: test videos of them, ascending."""

    classes: np.ndarray
    unseen: np.ndarray
    rows: np.ndarray


def choose(
    dataset: str, class_name: np.ndarray, class_index: np.ndarray, class_unseen: np.ndarray, target: np.ndarray,
    seen: int, unseen: int, videos: int,
) -> Choice:
    """-> the paper's classes where the dataset has them, else ``seen`` and ``unseen`` classes with the most videos.

    ``target`` (N): true class ids of the test videos; of each class at most its even share of ``videos`` is taken.
    """
    present = np.isin(class_index, target)
    plain = np.array(["".join(ch for ch in str(name).lower() if ch.isalnum()) for name in class_name[class_index]])
    wanted = np.isin(plain, FIGURE_CLASSES.get(dataset, ())) & present
    if not (wanted & class_unseen).any() or not (wanted & ~class_unseen).any():
        counts = np.array([(target == k).sum() for k in class_index])
        wanted = np.zeros(len(class_index), dtype=bool)
        for part, limit in ((~class_unseen, seen), (class_unseen, unseen)):
            candidates = np.flatnonzero(part & present)
            wanted[candidates[np.argsort(-counts[candidates], kind="stable")][:limit]] = True
    chosen = np.concatenate((class_index[wanted & ~class_unseen], class_index[wanted & class_unseen]))
    share = max(1, videos // max(len(chosen), 1))
    rows = [spread(np.flatnonzero(target == k), share) for k in chosen]
    together = np.sort(np.concatenate(rows)) if rows else np.zeros(0, int)
    return Choice(chosen, np.isin(chosen, class_index[class_unseen]), together)


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """-> at most ``count`` of ``rows``, evenly spread."""
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def cloud(
    title: str, features: np.ndarray, classes: np.ndarray, seed: int, labels: np.ndarray | None = None,
    label_classes: Sequence[int] = (),
) -> Cloud:
    """t-SNE of ``features`` (N, k) and, in the same map, of ``labels`` (C, k), over Euclidean distances.

    Deterministic: started from the principal components, on one thread.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    both = features if labels is None else np.concatenate((features, labels))
    both = both.astype(np.float64)
    perplexity = min(30.0, max(1.0, (len(both) - 1) / 3))
    with threadpool_limits(1):
        points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(both)
    return Cloud(title, points[: len(features)], classes, points[len(features):], np.asarray(label_classes, dtype=int))
