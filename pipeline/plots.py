"""Pictures of the report, as SVG text that is the same for the same numbers: fixed fonts, ids and metadata.

Functions take arrays in per cent and give the markup of one picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEEN, UNSEEN, HM, ZSL, INK, FAINT = "#33658a", "#c8691c", "#2f7d5b", "#7a5195", "#22303c", "#8a97a3"
COOL = ("#33658a", "#6aa84f", "#8d6cab", "#2a9d8f")
WARM = ("#d1495b", "#e08e1b", "#8c4a2f", "#c2478f")
SEED_COLOURS = ("#33658a", "#c8691c", "#2f7d5b", "#7a5195", "#d1495b", "#8c4a2f", "#2a9d8f", "#5c6b78")
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.labelsize": 9, "axes.edgecolor": FAINT, "axes.labelcolor": INK,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.linewidth": 0.8, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6eaee", "grid.linewidth": 0.8,
    "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8.5, "figure.facecolor": "none",
    "axes.facecolor": "none", "svg.hashsalt": "avgzsl", "svg.fonttype": "path", "path.simplify": False,
}


@dataclass(frozen=True)
class Curve:
    """Validation or loss of one seed over its epochs. ``chosen``: 0-based epoch that was taken, -1 if none."""

    label: str
    values: np.ndarray
    chosen: int = -1


@dataclass(frozen=True)
class Cloud:
    """One t-SNE panel: ``points`` (N, 2) of ``classes`` (N); ``labels`` (C, 2) with ``label_classes`` (C), or empty."""

    title: str
    points: np.ndarray
    classes: np.ndarray
    labels: np.ndarray
    label_classes: np.ndarray


def figure(width: float, height: float, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """-> a figure of that size in inches with its axes in a row. No window system, no global state."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(drawn)
    axes = drawn.subplots(1, columns, squeeze=False, **options)[0]
    return drawn, list(axes)


def style() -> Any:
    """-> context in which every figure is made and written."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def svg(drawn: Figure, name: str) -> str:
    """-> markup to stand in HTML. ``name`` is unique on the page: ids inside it begin with it."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.strip()


def overview(names: Sequence[str], values: np.ndarray, errors: np.ndarray, chance: np.ndarray, key: str) -> str:
    """Bars of HM and ZSL (names, 2) with interval (names, 2, 2: below, above) and chance (names, 2)."""
    with style():
        drawn, (axes,) = figure(8.6, 0.9 + 0.46 * len(names))
        at = np.arange(len(names))[::-1]
        for k, (label, colour) in enumerate((("HM", HM), ("ZSL", ZSL))):
            offset = 0.19 - 0.38 * k
            axes.barh(at + offset, values[:, k], 0.34, color=colour, label=label)
            shown = np.isfinite(errors[:, k]).all(axis=1)
            axes.errorbar(values[shown, k], at[shown] + offset, xerr=errors[shown, k].T, fmt="none", ecolor=INK,
                          elinewidth=0.9, capsize=2)
            axes.vlines(chance[:, k], at + offset - 0.2, at + offset + 0.2, color="#b00020", linewidth=1.6,
                        label="chance" if k else "")
        axes.set_yticks(at, list(names))
        axes.set_xlabel("per cent")
        axes.set_xlim(0, min(100, 1.12 * max(float(np.nanmax(values + np.nan_to_num(errors[:, :, 1]))), 5)))
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        return svg(drawn, key)


def stacking(
    betas: np.ndarray, seen: np.ndarray, unseen: np.ndarray, chosen: Sequence[tuple[float, float, float]], key: str
) -> str:
    """Seen against unseen accuracy over the calibration range, and all three over beta.

    ``seen``, ``unseen`` (seeds, betas); ``chosen``: beta, S, U of each seed.
    """
    with style():
        drawn, (left, right) = figure(9.2, 3.5, 2)
        lines_of_equal_hm(left)
        for s, u in zip(seen, unseen, strict=True):
            left.plot(s, u, color=SEEN, alpha=0.35, linewidth=1)
        left.plot(seen.mean(0), unseen.mean(0), color=SEEN, linewidth=1.8, marker="o", markersize=3,
                  label="test, mean over seeds" if len(seen) > 1 else "test")
        left.scatter([s for _, s, _ in chosen], [u for _, _, u in chosen], s=42, color=UNSEEN, edgecolors="white",
                     zorder=4, label="at the beta that validation chose")
        limits(left, seen, unseen)
        left.set_xlabel("S: seen classes, per cent")
        left.set_ylabel("U: unseen classes, per cent")
        left.set_title("Seen against unseen, beta from " + f"{betas[0]:g} to {betas[-1]:g}")
        left.legend(loc="best")
        hm = 2 * seen * unseen / np.maximum(seen + unseen, 1e-9)
        for values, colour, label in ((seen, SEEN, "S"), (unseen, UNSEEN, "U"), (hm, HM, "HM")):
            for one in values:
                right.plot(betas, one, color=colour, alpha=0.25, linewidth=1)
            right.plot(betas, values.mean(0), color=colour, linewidth=1.8, label=label)
        for beta in sorted({beta for beta, _, _ in chosen}):
            right.axvline(beta, color=FAINT, linestyle=":", linewidth=1.2)
        right.set_ylim(bottom=0)
        right.set_xlabel("beta, added to the distances of seen classes (dotted: chosen)")
        right.set_ylabel("per cent")
        right.set_title("Accuracy on test over the calibration range")
        right.legend(loc="best", ncols=3)
        return svg(drawn, key)


def lines_of_equal_hm(axes: Axes) -> None:
    s = np.linspace(0.5, 100, 400)
    for value in range(10, 100, 10):
        with np.errstate(divide="ignore"):
            u = value * s / (2 * s - value)
        u[(u <= 0) | (u > 100)] = np.nan
        axes.plot(s, u, color="#dfe4e8", linewidth=0.8, zorder=0)


def limits(axes: Axes, seen: np.ndarray, unseen: np.ndarray) -> None:
    axes.set_xlim(0, min(102, max(5.0, 1.12 * float(seen.max()))))
    axes.set_ylim(0, min(102, max(5.0, 1.18 * float(unseen.max()))))


def training(panels: Sequence[tuple[str, str, Sequence[Curve]]], key: str) -> str:
    """One panel for each (title, unit, curves of the seeds)."""
    from matplotlib.ticker import MaxNLocator

    with style():
        drawn, axes = figure(9.2, 2.9, max(len(panels), 1))
        for one, (title, unit, curves) in zip(axes, panels, strict=True):
            for k, curve in enumerate(curves):
                colour = SEED_COLOURS[k % len(SEED_COLOURS)]
                epochs = np.arange(1, len(curve.values) + 1)
                marker = "o" if len(epochs) == 1 else None
                one.plot(epochs, curve.values, color=colour, linewidth=1.4, marker=marker, label=curve.label)
                if 0 <= curve.chosen < len(curve.values):
                    one.scatter([curve.chosen + 1], [curve.values[curve.chosen]], s=36, color=colour,
                                edgecolors="white", zorder=4)
            one.set_title(title)
            one.set_xlabel("epoch")
            one.set_ylabel(unit)
            one.xaxis.set_major_locator(MaxNLocator(integer=True))
        if panels and len(panels[0][2]) > 1:
            axes[0].legend(loc="best")
        return svg(drawn, key)


def embeddings(clouds: Sequence[Cloud], names: Sequence[str], unseen: Sequence[bool], key: str) -> str:
    """t-SNE panels (the paper's figure 3): a colour per class, triangles: unseen ones, stars: label embeddings."""
    colours = class_colours(unseen)
    with style():
        drawn, axes = figure(9.2, 3.9, len(clouds))
        for one, cloud in zip(axes, clouds, strict=True):
            for k, (colour, is_unseen) in enumerate(zip(colours, unseen, strict=True)):
                points = cloud.points[cloud.classes == k]
                one.scatter(points[:, 0], points[:, 1], s=15, marker="^" if is_unseen else "o", linewidths=0.9,
                            facecolors="none" if is_unseen else colour, edgecolors=colour, alpha=0.9)
            for k, point in zip(cloud.label_classes, cloud.labels, strict=True):
                one.scatter(point[0], point[1], s=190, marker="*", color=colours[k],
                            edgecolors="black", linewidths=1.0, zorder=5)
            one.set_title(cloud.title)
            one.set_xticks([])
            one.set_yticks([])
            one.spines[["top", "right"]].set_visible(True)
        columns = max(1, min(len(names) + 1, 125 // (9 + max(map(len, names), default=0) + 9)))
        drawn.legend(handles=class_handles(names, unseen, colours), loc="outside lower center", ncols=columns)
        return svg(drawn, key)


def class_colours(unseen: Sequence[bool]) -> list[str]:
    """-> a cool colour for each seen class and a warm one for each unseen class, up to eight in all."""
    colours = {False: [*COOL, *reversed(WARM)], True: [*WARM, *reversed(COOL)]}
    return [colours[bool(flag)].pop(0) for flag in unseen]


def class_handles(names: Sequence[str], unseen: Sequence[bool], colours: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for name, is_unseen, colour in zip(names, unseen, colours, strict=True):
        handles.append(Line2D([], [], linestyle="", marker="^" if is_unseen else "o", markeredgecolor=colour,
                              markerfacecolor="none" if is_unseen else colour,
                              label=name + (" (unseen)" if is_unseen else "")))
    handles.append(Line2D([], [], linestyle="", marker="*", markersize=12, markerfacecolor="#cccccc",
                          markeredgecolor="black", label="label embedding"))
    return handles


def recalls(names: Sequence[str], values: np.ndarray, unseen: np.ndarray, key: str) -> str:
    """Recall of each class (classes, seeds), seen and unseen side by side, best first."""
    named = len(names) <= 60
    longest = max(int((~unseen).sum()), int(unseen.sum()), 1)
    with style():
        drawn, axes = figure(9.2, 0.8 + 0.21 * longest if named else 2.6, 2)
        with np.errstate(invalid="ignore"):
            mean = np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in values])
        sides = ((axes[0], ~unseen, SEEN, "Seen classes"), (axes[1], unseen, UNSEEN, "Unseen classes"))
        for one, part, colour, title in sides:
            rows = np.flatnonzero(part & np.isfinite(mean))
            rows = rows[np.argsort(-mean[rows], kind="stable")]
            at = np.arange(len(rows))
            if named:
                one.barh(at, mean[rows], 0.66, color=colour, alpha=0.85)
                if values.shape[1] > 1:
                    for column in values[rows].T:
                        one.scatter(column, at, s=7, color=INK, alpha=0.6, linewidths=0, zorder=3)
                one.set_yticks(at, [names[row] for row in rows])
                one.invert_yaxis()
                one.set_ylim(longest - 0.4, -0.6)
                one.grid(axis="y", visible=False)
                one.set_xlim(0, 102)
                one.set_xlabel("recall, per cent")
            else:
                one.bar(at, mean[rows], 1.0, color=colour, alpha=0.85)
                one.set_ylim(0, 102)
                one.set_xlabel("classes, best first")
                one.set_ylabel("recall, per cent")
            average = mean[rows].mean() if len(rows) else float("nan")
            one.set_title(f"{title}: mean {average:.1f} per cent")
        return svg(drawn, key)


def confusion(names: Sequence[str], counts: np.ndarray, seen: int, key: str) -> str:
    """``counts`` (C, C): true row, predicted column, seen classes first; shown as shares of a row."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    named = len(names) <= 60
    side = 2.6 + 0.16 * len(names) if named else 6.0
    with style():
        drawn, (axes,) = figure(side + 0.9, side)
        image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest", aspect="equal")
        axes.axhline(seen - 0.5, color=UNSEEN, linewidth=1.1)
        axes.axvline(seen - 0.5, color=UNSEEN, linewidth=1.1)
        axes.grid(visible=False)
        if named:
            axes.set_xticks(range(len(names)), list(names), rotation=90, fontsize=7.5)
            axes.set_yticks(range(len(names)), list(names), fontsize=7.5)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        axes.set_xlabel("predicted; unseen classes right of the line")
        axes.set_ylabel("true; unseen classes below the line")
        bar = drawn.colorbar(image, ax=axes, shrink=0.7)
        bar.set_label("share of the true class's videos, per cent")
        bar.outline.set_visible(False)  # type: ignore[operator]
        return svg(drawn, key)
