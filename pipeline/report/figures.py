"""Curves and ablations as small panels that read well in light, in dark and on paper: SVG for pages, PDF for LaTeX.

Text and axes take the page's own colour (`currentColor`), lines a palette that colour-blind readers can tell
apart (Okabe and Ito, 2008, darkened where a light ground needs it). The bytes depend on nothing but the
numbers.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from pipeline.report import words
from pipeline.report.ablations import Ablation, is_number, speed_unit
from pipeline.report.costs import SPEED, pretraining_speeds
from pipeline.report.curves import Panel
from pipeline.report.effort import Effort
from pipeline.report.grid import Grid
from pipeline.report.letters import families
from pipeline.statistics import Estimate

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7a6ff0", "#8c8c8c")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
FEW = 10  # runs that a legend names in one column
MOST = 24  # runs that colours and dashes tell apart: of more, a panel names none, or a few
TICKS = 8  # values that have a tick each below an axis
INK = "#010203"  # stands for the page's text colour until the SVG is written
ALPHAS = {
    "pooled": 0.9,
    "seeds": 0.9,
    "cell": 0.45,
}  # an interval within one cell is drawn lighter than one over seeds
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "unmask",
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
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
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One panel in both formats; the caption says what is seen in words that do without it."""

    name: str
    caption: str
    svg: str
    pdf: bytes


def loss_figure(panel: Panel, runs: Sequence[str]) -> Drawing:
    """One panel of loss curves; `runs` fixes each run's colour throughout the report."""
    lines: dict[str, list[tuple[tuple[float, ...], tuple[float, ...]]]] = {}  # of each run, whatever its seed
    for curve in panel.curves:
        lines.setdefault(curve.run, []).extend(curve.pieces())
    named = len(lines) <= MOST

    def draw(axes: Axes) -> None:
        for run, pieces in lines.items():
            # One path with gaps: a study of thousands of cells would have thousands of lines otherwise.
            steps = [step for piece, _ in pieces for step in (*piece, math.nan)]
            losses = [loss for _, piece in pieces for loss in (*piece, math.nan)]
            if named:
                color, dash = style(run, runs)
                axes.plot(steps, losses, color=color, linestyle=dash, label=run)
            else:
                axes.plot(steps, losses, color=PALETTE[0], linewidth=0.7, alpha=0.4)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        if named and len(lines) > 1:
            small: Any = {"ncols": 2, "fontsize": 5.5} if len(lines) > FEW else {}
            axes.legend(handlelength=1.6, labelspacing=0.3, **small)

    more = "" if named else f" {len(lines)} runs, more than colours tell apart; compare.html shows two side by side."
    return drawing(draw, panel.name, panel.caption + more)


def ablation_figures(grid: Grid, ablation: Ablation) -> list[Drawing]:
    """One panel for each headline metric that was measured at two values or more, and for speed.

    Numbers are an axis with a line over it, on which what is left open is a level; words are bars.
    """
    panels = []  # stage, metric, label, unit, decimals, estimates
    for task in grid.study.tasks:
        for metric in grid.headline(task):
            label = f"{grid.study.short(task)} {grid.study.metric(task, metric)}"
            estimates = [grid.estimate(task, run, metric) for _, run in ablation.points]
            panels.append((task, metric, label, grid.unit(task, metric), grid.digits(task, metric), estimates))
    speeds = pretraining_speeds(grid, [run for _, run in ablation.points])
    panels.append(("pretrain", SPEED, "Speed of pretraining", speed_unit(grid, ablation), 0, speeds))
    figures = []
    for stage, metric, label, scale, decimals, estimates in panels:
        found = list(zip((value for value, _ in ablation.points), estimates, strict=True))
        points = [(value, estimate) for value, estimate in found if estimate is not None]
        if len(points) > 1:
            name = f"{ablation.name}-{stage}-{metric}".replace("_", "-")
            gaps = [words.value(value) for value, estimate in found if estimate is None]
            caption = f"{label} by {ablation.axis}; whiskers are 95 % intervals, where known"
            caption += "" if ablation.is_numeric else "; the axis need not begin at zero"
            caption += f"; no value at {', '.join(gaps)}." if gaps else "."
            draw = _line if ablation.is_numeric else _bars
            panel = draw(points, ablation.axis, f"{label}, {scale}" if scale else label, decimals)
            figures.append(drawing(panel, name, caption))
    return figures


def effort_figure(effort: Effort, runs: Sequence[str]) -> Drawing:
    """Results over cost, each run in its colour, the front as a line, no training as levels.

    Every run has its name beside it, of many those on the front.
    """
    hours = max(cost for cost, _ in effort.points.values())
    scale, unit = (
        (1, "device hours") if hours >= 2 else (60, "device minutes") if hours >= 1 / 30 else (3600, "seconds")
    )

    named = len(effort.points) <= MOST

    def draw(axes: Axes) -> None:
        front = [effort.points[run] for run in effort.front]
        axes.plot([scale * cost for cost, _ in front], [e.mean for _, e in front], color=INK, linewidth=0.7, alpha=0.5)
        colors: dict[str, list[tuple[float, Estimate]]] = {}
        for run, (cost, estimate) in effort.points.items():
            colors.setdefault(style(run, runs)[0], []).append((scale * cost, estimate))
            if named or run in effort.front:
                axes.annotate(run, (scale * cost, estimate.mean), (4, 2), textcoords="offset points", fontsize=6)
        for color, points in colors.items():
            whiskers(axes, points, color)
            axes.plot([x for x, _ in points], [e.mean for _, e in points], "o", color=color, ms=4.5)
        for run, estimate in effort.levels.items():
            axes.axhline(estimate.mean, color=style(run, runs)[0], linestyle=DASHES[1], linewidth=1, label=run)
        if effort.levels:
            axes.legend()
        axes.set_xlim(0, 1.25 * scale * hours)
        axes.set_xlabel(f"pretraining, {unit}")
        axes.set_ylabel(f"{effort.label}, {effort.unit}" if effort.unit else effort.label)

    return drawing(draw, effort.name, effort.caption + ("" if named else " Runs on the front alone are named."))


def style(run: str, runs: Sequence[str]) -> tuple[str, Any]:
    """Colour and dash of a run: colours first, then dashes when the palette is used up."""
    index = list(runs).index(run)
    return PALETTE[index % len(PALETTE)], DASHES[index // len(PALETTE) % len(DASHES)]


def _line(points: Sequence[tuple[Any, Estimate]], setting: str, label: str, digits: int) -> Callable[[Axes], None]:
    """Estimates over numbers; one that belongs to no number is a level across the panel."""
    placed = [(float(value), estimate) for value, estimate in points if is_number(value)]
    xs = [x for x, _ in placed]

    def draw(axes: Axes) -> None:
        whiskers(axes, placed)
        axes.plot(xs, [e.mean for _, e in placed], "o-", color=PALETTE[0], ms=4.5)
        for value, estimate in points:
            if not is_number(value):
                axes.axhline(
                    estimate.mean, color=PALETTE[1], linestyle=DASHES[1], linewidth=1, label=words.value(value)
                )
                axes.legend()
        if xs and min(xs) > 0 and max(xs) >= 8 * min(xs):
            axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.3g}")
        if len(xs) <= TICKS:
            axes.set_xticks(xs, [f"{x:g}" for x in xs])
        axes.minorticks_off()
        axes.margins(x=0.15)
        axes.set_xlabel(setting)
        axes.set_ylabel(label)

    return draw


def _bars(points: Sequence[tuple[Any, Estimate]], setting: str, label: str, digits: int) -> Callable[[Axes], None]:
    """Estimates of words, the first on top, each bar with its value."""
    names, estimates = [words.value(value) for value, _ in points], [estimate for _, estimate in points]
    lows = [e.mean if e.low is None else e.low for e in estimates]
    highs = [e.mean if e.high is None else e.high for e in estimates]
    reach = (max(highs) - min(lows)) or 1.0

    def draw(axes: Axes) -> None:
        places = range(len(points))
        axes.barh(places, [e.mean for e in estimates], height=0.55, color=PALETTE[0], alpha=0.75)
        whiskers(axes, list(zip(places, estimates, strict=True)), along="x")
        for place, estimate, high in zip(places, estimates, highs, strict=True):
            axes.text(high + 0.04 * reach, place, f"{estimate.mean:.{digits}f}", va="center", fontsize=8)
        least = min(lows) - 0.6 * reach
        axes.set_xlim(0 if min(lows) >= 0 > least else least, max(highs) + 0.45 * reach)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_ylabel(setting)
        axes.set_xlabel(label)

    return draw


def whiskers(axes: Axes, points: Sequence[tuple[float, Estimate]], color: str = INK, along: str = "y") -> None:
    """The intervals of estimates at their places on the other axis than the one that they run along."""
    for basis, alpha in ALPHAS.items():
        found = [
            (place, e.mean, e.mean - e.low, e.high - e.mean)
            for place, e in points
            if e.basis == basis and e.low is not None and e.high is not None
        ]
        if found:
            places, means, below, above = zip(*found, strict=True)
            x, y = (places, means) if along == "y" else (means, places)
            ends: Any = {f"{along}err": (below, above)}
            axes.errorbar(x, y, **ends, fmt="none", capsize=3, color=color, linewidth=1, alpha=alpha)


def drawing(draw: Callable[[Axes], None], name: str, caption: str, size: tuple[float, float] = (3.6, 2.4)) -> Drawing:
    """What `draw` puts on axes, `size` inches wide and high."""
    with matplotlib.rc_context(_STYLE | {"font.family": families()}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        draw(axes)
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.execute(figure)  # settles all places, once for both formats
        figure.set_layout_engine(None)
        text, pages = io.StringIO(), io.BytesIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(pages, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return Drawing(name=name, caption=caption, svg=_tidy(text.getvalue(), name, caption), pdf=pages.getvalue())


def _tidy(svg: str, name: str, caption: str) -> str:
    """One `<svg>` element that many can share a page with: own ids, the page's colour and font, a title, few bytes."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>f{sha256(name.encode()).hexdigest()[:8]}-", svg)
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)  # the root's
    svg = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{2,}", _rounded, tag[0]), svg)  # texts stay as they are
    svg = re.sub(r"(?<=\d)\s+L(?=\s)", "", svg)  # after the first point of a path a line is understood
    svg = svg.replace(INK, "currentColor")
    root = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    more = f'role="img" font-family="system-ui, sans-serif"><title>{escape(caption)}</title>'
    svg = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda found: f"{root} {found[1]} {more}", svg)
    return re.sub(r"\s+", " ", re.sub(r">\s+<", "><", svg)).strip() + "\n"


def _rounded(number: re.Match[str]) -> str:
    """A tenth of a point for places; small numbers are widths and shades, which need two decimals."""
    value = float(number[0])
    return f"{value:.{2 if abs(value) < 2 else 1}f}"
