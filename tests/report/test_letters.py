"""Figures are set in Latin letters picked once: as wide as those of the whole font, and the whole font for the rest."""

import re
import zlib

import matplotlib
import pytest
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.textpath import TextPath

from pipeline.report.figures import drawing
from pipeline.report.letters import families


@pytest.fixture
def opened(monkeypatch):
    """The fonts that letters were picked from since, in their order."""
    names, load = [], subset.load_font

    def noted(file, *arguments, **more):
        font = load(file, *arguments, **more)
        names.append(font["name"].getDebugName(1))
        return font

    families()
    monkeypatch.setattr(subset, "load_font", noted)
    return names


def figure(text):
    return drawing(lambda axes: axes.set_title(text), "figure", "A figure.")


def test_no_figure_of_latin_text_opens_the_whole_font(opened):
    figure("k-NN top-1, % – ‘MAE’ −1.5 × 10² “ö”")
    assert set(opened) == {"DejaVu Sans Latin"}


def test_letters_that_are_not_latin_come_from_the_whole_font(opened):
    page = figure("Ж").pdf
    assert set(opened) == {"DejaVu Sans", "DejaVu Sans Latin"}
    streams = re.findall(rb"FlateDecode.*?stream\n(.*?)\nendstream", page, re.DOTALL)
    assert any(b"<0416>" in zlib.decompress(stream) for stream in streams), "the PDF tells of no letter U+0416"


@pytest.mark.parametrize("text", ["AVATAR To LT Yes", "fine flow, office", "−1.25 ± 0.5 × 10²", "Überwörter, čeština"])
def test_shapes_and_kerning_are_those_of_the_whole_font(text):
    light, whole = (TextPath((0, 0), text, size=9, prop={"family": family}) for family in families())
    assert light.vertices.tolist() == whole.vertices.tolist()


def test_each_figure_is_laid_out_once_and_drawn_once_for_each_format(monkeypatch):
    done, draw = [], Axes.draw
    engine = matplotlib.layout_engine.ConstrainedLayoutEngine
    execute = engine.execute
    monkeypatch.setattr(Axes, "draw", lambda self, renderer: done.append("drawn") or draw(self, renderer))
    monkeypatch.setattr(engine, "execute", lambda self, figure: done.append("laid out") or execute(self, figure))
    figure("Losses")
    assert done == ["laid out", "drawn", "drawn"]
