"""Every method and every quoted number can be cited, in a file that BibTeX reads."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.config import ConfigError, available_methods
from pipeline.report.papers import PAPERS, load_quotes
from pipeline.report.references import REFERENCES, bibliography, cite, load_references

ROOT = Path(__file__).parents[2]
METHODS = sorted(path.stem for path in (ROOT / PAPERS).glob("*.yaml"))


@pytest.fixture
def references():
    return load_references(ROOT / REFERENCES)


def quotes_of(method):
    return load_quotes(ROOT / PAPERS / f"{method}.yaml")


def test_every_system_has_its_paper(references, monkeypatch):
    monkeypatch.chdir(ROOT)
    cited = {name for one in references for name in one.ours}
    assert set(METHODS) <= cited <= set(available_methods())


@pytest.mark.parametrize(
    ("source", "kind", "key"),
    [
        ("MAE paper Table 3", "paper", "he2022mae"),
        ("MAE-ST paper section 5.2", "paper", "feichtenhofer2022maest"),
        ("facebookresearch/mae FINETUNE.md (PyTorch row)", "authors", "facebookresearch-mae"),
        ("AFET README (github.com/shanzhenren/AFET)", "third_party", "shanzhenren-afet"),
        ("microsoft/unilm beit2 README.md / get_started.md", "authors", "microsoft-unilm"),
        ("notes on the ViC-MAE paper", "second_hand", "notes-on-the-vic-mae-paper"),
    ],
)
def test_sources_are_cited_as_what_they_are(references, source, kind, key):
    one = cite(source, kind, references)
    assert one.key == key and f"{{{key}," in one.text
    assert ("second hand" in one.text) == (kind == "second_hand")


def test_a_bibliography_has_each_source_once_and_nothing_of_ours(references):
    text = bibliography(["mae", "dbot"], {"mae": quotes_of("mae"), "dbot": quotes_of("dbot")}, references)
    keys = re.findall(r"^@\w+\{(.+),$", text, re.MULTILINE)
    assert len(keys) == len(set(keys)) and keys[:2] == ["he2022mae", "liu2024dbot"]
    assert {"facebookresearch-mae", "liuxingbin-dbot"} <= set(keys) and "madan2024clmae" not in keys
    assert "ours =" not in text and "quoted =" not in text and not re.search(r",\s*\}\s*$", text, re.MULTILINE)


@pytest.mark.skipif(shutil.which("bibtex") is None, reason="no BibTeX here; install texlive-base to run it")
def test_bibtex_reads_all_of_it_without_a_warning_of_syntax(references, tmp_path):
    text = bibliography(METHODS, {method: quotes_of(method) for method in METHODS}, references)
    (tmp_path / "all.bib").write_text(text)
    (tmp_path / "all.aux").write_text("\\citation{*}\n\\bibstyle{plain}\n\\bibdata{all}\n")
    told = subprocess.run(["bibtex", "all"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0 and "error" not in told.stdout.lower(), told.stdout
    assert (tmp_path / "all.bbl").read_text().count("\\bibitem") == text.count("\n@") + 1


@pytest.mark.parametrize(
    "text", ["@misc{,\n  title = {x}\n}\n", "@misc{a,\n  year = {1}\n}\n@misc{a,\n  year = {2}\n}\n"]
)
def test_entries_without_a_key_of_their_own_are_refused(tmp_path, text):
    (tmp_path / "wrong.bib").write_text(text)
    with pytest.raises(ConfigError, match=r"no key|stands twice"):
        load_references(tmp_path / "wrong.bib")
