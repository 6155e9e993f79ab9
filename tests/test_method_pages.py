"""A page for each system: what it shows of recipe, runs and reported numbers is what the files say, all of it."""

import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import load_study
from pipeline.config.heads import RECIPE_HEAD
from tests.workflow.graphs import ROOT

SYSTEMS = sorted(path.stem for path in ROOT.glob("config/papers/*.yaml"))
PAGES = {name: (ROOT / f"docs/methods/{name}.md").read_text() for name in SYSTEMS}
BASELINES = {"random", "supervised", "pretrained"}
RECIPES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(ROOT.glob("config/recipes/*.yaml"))}
OWN = {name: raw for name, raw in RECIPES.items() if f"{{{{ recipe {name} }}}}" in "".join(PAGES.values())}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def placeholders(kind: str) -> list[str]:
    return [name for text in PAGES.values() for name in re.findall(rf"^{{{{ {kind} (\w+) }}}}$", text, re.M)]


def tables(text: str) -> Iterator[list[list[str]]]:
    """Rows of each table, cells as they are read, the head first."""
    for table in re.findall(r"<table>(.*?)</table>", text, re.S):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
        yield [[plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)] for row in rows]


def plain(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", text)).strip()


def leaves(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def built(site: Path, name: str) -> str:
    return (site / f"methods/{name}.html").read_text()


def test_every_method_has_its_place_on_one_page():
    reproduced = [path for path in ROOT.glob("pipeline/methods/*.py") if "\nDepartures: " in path.read_text()]
    modules = {path.stem for path in reproduced} - BASELINES
    assert sorted(placeholders("departures")) == sorted(placeholders("runs")) == sorted(modules)
    told = [name for name, raw in RECIPES.items() if raw.get("method", name) in modules]
    assert sorted(placeholders("recipe")) == sorted(told)
    assert len(SYSTEMS) == 12 and placeholders("figure") == placeholders("reported") == SYSTEMS
    assert {path.stem for path in ROOT.glob("docs/methods/*.md")} == {*SYSTEMS, "index"}


@pytest.mark.parametrize("recipe", OWN)
def test_a_recipe_is_shown_as_it_is(site, recipe):
    page = next(name for name in SYSTEMS if f"{{{{ recipe {recipe} }}}}" in PAGES[name])
    after = built(site, page).partition(f"<code>config/recipes/{recipe}.yaml</code>")[2]
    scales = {scale: dict(leaves(OWN[recipe][scale])) for scale in OWN[recipe] if scale not in RECIPE_HEAD}
    (head, *rows), *rest = tables(after)
    assert head == ["setting", *scales, "remarks"] and head[1:3] == ["paper", "demo"]
    for column, scale in enumerate(scales, 1):
        shown = {row[0]: yaml.safe_load(row[column]) for row in rows if row[column] != "–"}
        assert shown == {key: value for key, value in scales[scale].items() if not key.startswith("by_model.")}
    changed = [f"{key}: {value}" for key, value in scales["paper"].items() if key.startswith("by_model.")]
    if changed:
        (_, *rows) = rest[0]
        shown = [f"by_model.{row[0]}.{key}: {yaml.safe_load(value)}" for row in rows for key, _, value in [
            row[1].partition(": ")]]  # fmt: skip
        assert shown == changed


def test_remarks_are_those_of_the_file(site):
    """Each comment on a number is shown, at its number."""
    shown = {row[0]: row[-1] for row in next(tables(built(site, "mae")))}
    assert shown["options.mask_kind"] == "paper: Table 1f" and shown["options.mask_ratio"] == ""
    assert shown["augment.kind"] == "demo: of all augment, digits have a side"
    for recipe in OWN:
        page = next(name for name in SYSTEMS if f"{{{{ recipe {recipe} }}}}" in PAGES[name])
        told = plain(built(site, page)).replace("\n", " ")
        for line in (ROOT / f"config/recipes/{recipe}.yaml").read_text().splitlines():
            if remark := re.search(r"(?:^|\s)# (.*)", line):
                assert remark[1].replace("`", "").strip() in told, f"{recipe}: {remark[1]}"


@pytest.mark.parametrize("name", SYSTEMS)
def test_all_reported_numbers_are_shown(site, name):
    quotes = yaml.safe_load((ROOT / f"config/papers/{name}.yaml").read_text())
    after = built(site, name).partition('id="reported-numbers"')[2]
    rows = [(dict(zip(head, row, strict=True))) for head, *body in tables(after) for row in body]
    shown = sorted(float(row["Quoted value"].removesuffix(" ↓")) for row in rows)
    assert shown == sorted(float(f"{quote['value']:g}") for quote in quotes)
    text = plain(after)
    for quote in quotes:
        assert quote["source"] in text or re.sub(r"\s*\(.*\)$", "", quote["source"]) in text
    assert ("is not the authors’ word" in text) == any(q["kind"] in ("third_party", "second_hand") for q in quotes)


@pytest.mark.parametrize("study", ["demo", "paper", "released"])
def test_all_runs_are_shown(site, monkeypatch, study):
    monkeypatch.chdir(ROOT)
    for run in load_study(f"config/{study}.yaml").runs.values():
        method = RECIPES[run.method].get("method", run.method)
        if method not in BASELINES:
            page = next(name for name in SYSTEMS if f"{{{{ runs {method} }}}}" in PAGES[name])
            boxes = re.findall(rf"of <code>config/{study}.yaml</code>.*?</details>", built(site, page), re.S)
            (row,) = re.findall(rf"<tr>\s*<td><code>{run.name}</code></td>(.*?)</tr>", "".join(boxes), re.S)
            codes = [html.unescape(code) for code in re.findall(r"<code>(.*?)</code>", row, re.S)]
            changes = [yaml.safe_load(code) for code in codes if ": " in code]
            read = {"weights": run.weights} if run.weights else {}
            assert changes == [{key: value} for key, value in (read | dict(run.changes)).items()]
            assert run.teacher is None or run.teacher in codes


@pytest.mark.parametrize("name", SYSTEMS)
def test_figure_and_equation_can_be_read_by_all(site, name):
    text = built(site, name)
    (figure,) = re.findall(r'<figure class="drawing">.*?</figure>', text, re.S)
    for reference in ("aria-labelledby", "aria-describedby"):
        (target,) = re.findall(rf'role="img"[^>]*{reference}="([\w-]+)"', figure)
        (told,) = re.findall(rf'id="{target}">([^<]+)<', figure)
        assert len(told) > (150 if reference == "aria-describedby" else 10)
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(", figure), "colours are those of the page, light or dark"
    used = set(re.findall(r"url\(#([\w-]+)\)", figure))
    assert used <= set(re.findall(r'id="([\w-]+)"', figure)) and "@" not in figure
    assert text.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') >= 1
    assert not re.search(r"\$|\\[a-z]+", plain(text.partition('id="equation"')[2].partition('id="in-the-code"')[0]))
    assert "{{" not in plain(text)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install the package chromium to run it")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(site, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    with playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        for name in ("methods/elo", "methods/mae", "reference/recipes"):
            page.goto((site / f"{name}.html").as_uri(), wait_until="load")
            found = axe.run(page).response["violations"]
            assert not [
                (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")
            ]
            assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the screen"
        browser.close()
