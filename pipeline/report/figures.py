"""Curves and ablations as small SVG panels that read well in light, in dark and on paper.

Text and axes take the page's own colour (`currentColor`), lines a palette that colour-blind readers can tell
apart (Okabe and Ito, 2008, darkened where a light ground needs it). The bytes depend on nothing but the
numbers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from pipeline.report import words
from pipeline.report.ablations import Ablation
from pipeline.report.curves import Panel
from pipeline.report.grid import Grid
from pipeline.report.results import headline_metrics
from pipeline.statistics import Estimate

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7a6ff0", "#8c8c8c")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
_INK = "#010203"  # stands for the page's text colour until the SVG is written
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "unmask",
    "font.size": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _INK
    ),
}


def loss_figure(panel: Panel, runs: Sequence[str]) -> str:
    """An SVG of one panel of loss curves; `runs` fixes each run's colour throughout the report."""

    def draw(axes: Axes) -> None:
        for curve in panel.curves:
            label = curve.run if curve == next(c for c in panel.curves if c.run == curve.run) else None
            color, dash = style(curve.run, runs)
            axes.plot(curve.steps, curve.losses, color=color, linestyle=dash, label=label)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        if len({curve.run for curve in panel.curves}) > 1:
            axes.legend(handlelength=1.6, labelspacing=0.3)

    return _svg(draw, panel.name, panel.caption)


def ablation_figures(grid: Grid, ablation: Ablation) -> dict[str, tuple[str, str]]:
    """Name → (caption, SVG), one panel for each headline metric that was measured at two values or more."""
    figures = {}
    for task in grid.study.tasks:
        for metric in headline_metrics(grid, task):
            found = [(value, grid.estimate(task, run, metric)) for value, run in ablation.points]
            points = [(value, estimate) for value, estimate in found if estimate is not None]
            if len(points) > 1:
                label = f"{words.short_stage(task)} {words.metric(metric)}"
                name = f"{ablation.name}-{task}-{metric}".replace("_", "-")
                gaps = [str(value) for value, estimate in found if estimate is None]
                caption = f"{label} by {words.setting(ablation.setting)}; bars are 95 % intervals, where known"
                caption += f"; no value at {', '.join(gaps)}." if gaps else "."
                figures[name] = (caption, _ablation(ablation, label, points, name, caption))
    return figures


def style(run: str, runs: Sequence[str]) -> tuple[str, Any]:
    """Colour and dash of a run: colours first, then dashes when the palette is used up."""
    index = list(runs).index(run)
    return PALETTE[index % len(PALETTE)], DASHES[index // len(PALETTE) % len(DASHES)]


def _ablation(ablation: Ablation, label: str, points: Sequence[tuple[Any, Estimate]], name: str, caption: str) -> str:
    def draw(axes: Axes) -> None:
        xs = [value for value, _ in points] if ablation.is_numeric else list(range(len(points)))
        for basis in ("seeds", "cell"):  # an interval within one cell is drawn lighter than one over seeds
            chosen = [(x, e) for x, (_, e) in zip(xs, points, strict=True) if e.basis == basis]
            if chosen:
                spans = [[e.mean - e.low for _, e in chosen], [e.high - e.mean for _, e in chosen]]  # type: ignore[operator]
                axes.errorbar(
                    [x for x, _ in chosen],
                    [e.mean for _, e in chosen],
                    yerr=spans,
                    fmt="none",
                    capsize=3,
                    color=PALETTE[0],
                    alpha=0.9 if basis == "seeds" else 0.45,
                    linewidth=1,
                )
        axes.plot(
            xs,
            [e.mean for _, e in points],
            "o" + ("-" if ablation.is_numeric else ""),
            color=PALETTE[0],
            ms=4.5,
        )
        axes.set_xticks(xs, [str(value) for value, _ in points])
        axes.margins(x=0.15)
        axes.set_xlabel(words.setting(ablation.setting))
        axes.set_ylabel(f"{label}, %")

    return _svg(draw, name, caption)


def _svg(draw: Callable[[Axes], None], name: str, caption: str) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 2.4), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        draw(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return _tidy(stream.getvalue(), name, caption)


def _tidy(svg: str, name: str, caption: str) -> str:
    """One `<svg>` element that many can share a page with: own ids, the page's colour and font, a title."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'font: ([\d.]+)px [^;"]*', r"font: \1px system-ui, sans-serif", svg)
    svg = svg.replace(_INK, "currentColor")
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg xmlns="http://www.w3.org/2000/svg" '
                 rf'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\1" role="img">'
                 rf"<title>{escape(caption)}</title>", svg)  # fmt: skip
    return re.sub(r">\s+<", "><", svg).strip() + "\n"
