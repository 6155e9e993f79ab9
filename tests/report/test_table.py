"""One table in four notations, with entries chosen to break each of them."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from pipeline.report.table import (
    LONG,
    Column,
    Entry,
    Table,
    latex,
    number,
    select_best,
    to_csv,
    to_document,
    to_json,
    to_latex,
    to_markdown,
    to_text,
    word,
)
from pipeline.statistics import Estimate

NASTY = 'a|b_c & 100 % of $x^2$ {#1} ~ \\ <b> "q", ±'


@pytest.fixture
def table():
    measured = Estimate(mean=61.2, low=50.4, high=72.0, num_seeds=2, basis="seeds")
    return Table(
        name="made_up",
        title="Made & up",
        caption="Values in %.",
        columns=(Column(key="run", title="Run"), Column(key="knn.top1", title="k-NN", numeric=True)),
        rows=(
            (
                word("mae"),
                Entry(text="61.2 ± 10.8", value=measured, note="n = 2", evidence=("knn/mae-0",), best=True),
            ),
            (word(NASTY), Entry(text="failed", tone="failed", evidence=("knn/bad-0",))),
            (word("[50]"), number(None)),
        ),
        notes=("A note: 5 % off.",),
    )


def test_csv_spreads_estimates_and_says_what_failed(table):
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert rows[0]["knn.top1"] == "61.2"
    assert (rows[0]["knn.top1_low"], rows[0]["knn.top1_high"]) == ("50.4", "72.0")
    assert (rows[0]["knn.top1_interval"], rows[0]["knn.top1_num_seeds"]) == ("seeds", "2")
    assert rows[1]["run"] == NASTY
    assert rows[1]["knn.top1"] == "failed"
    assert rows[2]["knn.top1"] == ""


def test_json_holds_numbers_not_texts(table):
    rows = json.loads(to_json(table))["rows"]
    assert rows[0]["knn.top1"] == {"mean": 61.2, "low": 50.4, "high": 72.0, "num_seeds": 2, "basis": "seeds"}
    assert rows[0]["evidence"] == ["knn/mae-0"]
    assert rows[1]["knn.top1"] == "failed"
    assert rows[2]["knn.top1"] is None


def test_markdown_keeps_its_columns(table):
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}
    assert "**61.2 ± 10.8 (n = 2)**" in lines[2]
    assert r"a\|b\_c" in lines[3]


def test_latex_has_no_stray_commands(table):
    text = to_latex(table)
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines()[1:]] == [1, 1, 1]
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert not re.search(r"(?<!\\)[%#_]", text)
    assert r"\textbf{61.2 $\pm$ 10.8 (n = 2)}" in text
    assert "{}[50]" in text  # after \\ a bracket would be a length


def test_latex_escapes_every_special_character():
    assert latex("a_b%c&d#e$f{g}") == r"a\_b\%c\&d\#e\$f\{g\}"
    assert latex("\\^~") == r"\textbackslash{}\textasciicircum{}\textasciitilde{}"


def test_what_pdflatex_does_not_know_is_spelled():
    assert latex("ρ, λ, “x”\u00a0½ é\n漢") == r"$\rho$, $\lambda$, ``x''~$\frac{1}{2}$ é [U+6F22]"
    every = "".join(map(chr, [*range(32, 127), *range(0xA0, 0x250), *range(0x370, 0x400), *range(0x2010, 0x2300)]))
    assert max(map(ord, latex(every))) < 0x180


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here; install texlive-latex-base to run it")
def test_tables_compile_together_short_and_long(table, tmp_path):
    every = "".join(map(chr, [*range(32, 127), *range(0xA1, 0xAD), *range(0xAE, 0x180), *range(0x3B1, 0x3CA), 7, 9]))
    odd = (word(every), number(1.0))
    long = replace(table, name="long", rows=table.rows * 4 * LONG)
    tables = [replace(table, rows=(*table.rows, odd)), long]
    for one in tables:
        (tmp_path / f"{one.name}.tex").write_text(to_latex(one), encoding="utf-8")
    (tmp_path / "all.tex").write_text(to_document(tables), encoding="utf-8")
    told = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "all.tex"], cwd=tmp_path, capture_output=True, check=False
    )
    assert told.returncode == 0, told.stdout.decode(errors="replace")[-2000:]
    assert int(re.search(r"\((\d+) pages", told.stdout.decode(errors="replace"))[1]) > 3, "a long table goes on"
    (tmp_path / "made_up.tex").write_text(to_latex(table).replace(r"100 \%", r"\nothing"))
    assert subprocess.run(["pdflatex", "-interaction=nonstopmode", "all.tex"], cwd=tmp_path, capture_output=True,
                          check=False).returncode != 0, "a mistake is noticed"  # fmt: skip


def test_text_is_aligned(table):
    lines = to_text(table).splitlines()
    assert len({len(line) for line in lines if "61.2" in line or "failed" in line}) == 1


def test_the_best_needs_a_rival_and_a_direction():
    entries = [number(1.0), number(3.0), number(None), number(3.0)]
    assert select_best(entries, True) == [False, True, False, True]
    assert select_best(entries, False) == [True, False, False, False]
    assert select_best([number(1.0), number(None)], True) == [False, False]
