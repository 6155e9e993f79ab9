"""The list of all reports."""

from dataclasses import replace
from pathlib import Path

from pipeline.report.build import build
from pipeline.report.studies import list_studies

from .made import make_study


def test_each_report_is_listed_with_what_became_of_its_cells(study):
    build(study)
    build(replace(make_study(), name="other"))
    text = Path("reports/index.html").read_text()
    assert '<a href="made/index.html">made</a>' in text and '<a href="other/index.html">other</a>' in text
    rows = text.split("<tr>")[2:]
    numbers = [[int(part.split("<")[0]) for part in row.split('class="num">')[1:]] for row in rows]
    assert numbers == [[43, 1, 0, 1], [0, 0, 0, 45]]


def test_a_report_that_is_damaged_is_listed_with_the_way_out(root):
    folder = Path("reports/torn<b>")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    text = list_studies().read_text()
    assert "is not JSON" in text and "torn&lt;b&gt;" in text and "<b>" not in text


def test_templates_are_no_study(root):
    Path("reports/templates").mkdir(parents=True)
    assert "templates" not in list_studies().read_text()
