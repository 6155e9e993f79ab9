"""The letters of figures: Matplotlib's sans serif without what figures never need.

A PDF embeds the letters that it shows, and for each file they are picked from the font: from the 6,000 glyphs of DejaVu
Sans in longer than all the rest of a figure takes, from those of Latin text in a seventh of that. Shapes, widths and
kerning are the same.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from fontTools import subset
from matplotlib.font_manager import findfont, fontManager

WHOLE = "DejaVu Sans"
LATIN = f"{WHOLE} Latin"
LETTERS = [*range(0x20, 0x180), *map(ord, "–—‘’“”…·×−≤≥≈→←↑↓αβγδλμσ²½")]  # others are taken from the whole font


@cache
def families() -> tuple[str, str]:
    """Families for `font.family`: the Latin letters, and the whole font for what they lack.

    The file of the first is there for as long as this process.
    """
    options = subset.Options(layout_features=["kern", "liga"], glyph_names=True, notdef_outline=True, name_IDs=["*"])
    options.drop_tables += ["FFTM", "GDEF", "MATH"]  # a time stamp, and what these features do without
    font = subset.load_font(findfont(WHOLE), options)
    picked = subset.Subsetter(options)
    picked.populate(unicodes=LETTERS)
    picked.subset(font)
    font["name"].setName(LATIN, 1, 3, 1, 0x409)
    font["name"].setName(LATIN, 1, 1, 0, 0)
    path = Path(_folder().name) / "latin.ttf"
    font.save(path)
    fontManager.addfont(path)
    return LATIN, WHOLE


@cache
def _folder() -> TemporaryDirectory[str]:
    """Kept, since it goes with the last reference to it."""
    return TemporaryDirectory(prefix="letters-")
