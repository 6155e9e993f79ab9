"""What the figures of the method pages are drawn with: SVG inside the page, so that it takes the page's colours.

All are 400 units wide and are read from top to bottom, which fits a telephone. Cells of a grid are letters: `a` and `b`
patches of two images, `c` of their blend, `A` and `B` what was painted of them, `m` a mask token, `-` a hidden one,
digits a shade from 0 to 9. Shape tells as much as colour: what is hidden has a broken line, what is painted is hatched.
"""

from collections.abc import Sequence
from html import escape

WIDTH = 400
HEAD = (
    '<defs><pattern id="hatch-{name}-a" width="5" height="5" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><path class="stripe a" d="M0 0V5"/></pattern>'
    '<pattern id="hatch-{name}-b" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path class="stripe b" d="M0 0V5"/></pattern><marker id="tip-{name}" viewBox="0 0 8 8" refX="7" refY="4" '
    'markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path class="tip" d="M0 0L8 4L0 8Z"/></marker></defs>'
)


def figure(name: str, height: int, title: str, told: str, *parts: str) -> str:
    """A whole figure.

    Args:
        title: in a few words. told: for those who do not see it, all that it shows.
        parts: of the drawing, where `@` in an address stands for the figure's name.
    """
    told = " ".join(told.split())
    return (
        f'<figure class="drawing"><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-drawn" '
        f'aria-describedby="{name}-told"><desc id="{name}-told">{escape(told)}</desc>{HEAD.format(name=name)}'
        f"{''.join(parts).replace('@', name)}</svg>"
        f'<figcaption id="{name}-drawn">{escape(title)}</figcaption></figure>'
    )


def grid(x: float, y: float, rows: str, size: float = 18, gap: float = 2) -> str:
    """Cells, a word of letters for each row."""
    return "".join(
        cell(x + column * (size + gap), y + row * (size + gap), letter, size)
        for row, word in enumerate(rows.split())
        for column, letter in enumerate(word)
    )


def cell(x: float, y: float, letter: str, size: float = 18) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}"'
    if letter == "c":
        half = f'<path class="b" d="M{x + size:g} {y:g}V{y + size:g}H{x:g}Z"/>'
        return f'<rect class="a" {place}/>{half}'
    if letter in "AB":
        return f'<rect class="painted {letter.lower()}" style="fill:url(#hatch-@-{letter.lower()})" {place}/>'
    if letter.isdigit():
        return f'<rect class="shade" {place}/><rect class="a" style="opacity:{int(letter) / 9:.2f}" {place}/>'
    kind = {"m": "mask", "-": "hidden"}.get(letter, letter)
    return f'<rect class="{kind}" {place}/>'


def box(x: float, y: float, width: float, height: float, *lines: str, frozen: bool = False) -> str:
    """A part of a network, its name in the middle; one that is not trained has a broken outline."""
    first = y + height / 2 + 5 - 8 * (len(lines) - 1)
    words = "".join(text(x + width / 2, first + 16 * i, line) for i, line in enumerate(lines))
    kind = "box frozen" if frozen else "box"
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>{words}'


def text(x: float, y: float, words: str, anchor: str = "middle", small: bool = False) -> str:
    """Words on a line that ends, begins or is centred at x; `small` for what explains."""
    kind = "small" if small else "name"
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def tokens(x: float, y: float, *words: str) -> str:
    """Words of a caption; `-` stands for a hidden one, `+` before one for filled in."""
    kinds = {"-": "hidden", "+": "painted word"}
    return "".join(
        f'<rect class="{kinds.get(word[0], "word")}" x="{x + 54 * i:g}" y="{y:g}" width="50" height="24"/>'
        + text(x + 54 * i + 25, y + 16, word.lstrip("+-"), small=True)
        for i, word in enumerate(words)
    )


def arrow(*points: tuple[float, float], broken: bool = False, both: bool = False) -> str:
    """A line through points that ends in a tip; a broken one carries no gradient."""
    tips = 'marker-end="url(#tip-@)"' + (' marker-start="url(#tip-@)"' if both else "")
    return f'<polyline class="{"line broken" if broken else "line"}" points="{_joined(points)}" {tips}/>'


def line(*points: tuple[float, float], kind: str = "line") -> str:
    return f'<polyline class="{kind}" points="{_joined(points)}"/>'


def dot(x: float, y: float, radius: float = 5, kind: str = "a") -> str:
    return f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>'


def bars(x: float, y: float, heights: Sequence[float], width: float = 12) -> str:
    """Bars that stand on y."""
    return "".join(
        f'<rect class="a" x="{x + i * (width + 3):g}" y="{y - height:g}" width="{width:g}" height="{height:g}"/>'
        for i, height in enumerate(heights)
    )


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
