"""The page in a real browser: no network, pictures that load, tables that sort, evidence that opens."""

import pytest

from pipeline.report.build import build

from .made import NASTY

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def page(built, browser):
    """The built report, opened from disk; requests and errors are kept on it."""
    address = (built / "reports/made/index.html").as_uri()
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.requests, page.errors = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "console",
        lambda message: page.errors.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.goto(address)
    yield page
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith("data:")] == [address]
    page.close()


def column(page, table, key):
    """The texts of one column from top to bottom, without small print."""
    return page.evaluate(
        """([table, key]) => {
            const root = document.querySelector(`#table-${table} table`);
            const index = [...root.tHead.rows[0].cells].findIndex((cell) => cell.dataset.key === key);
            return [...root.tBodies[0].rows].map((row) => {
                const copy = row.cells[index].cloneNode(true);
                copy.querySelectorAll("small").forEach((small) => small.remove());
                return copy.textContent.trim();
            });
        }""",
        [table, key],
    )


def test_all_pictures_load(page):
    widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(widths) == 11
    assert min(widths) > 0
    assert page.evaluate("[...document.images].every((image) => image.alt.length > 10)")


def test_headings_sort_by_worth_with_gaps_last(page):
    key = "detect.box_ap"
    header = page.locator(f"#table-leaderboard-images th[data-key='{key}']")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert column(page, "leaderboard-images", key) == ["23.5", "22.3", "21.1", "18.7", "failed"]
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(page, "leaderboard-images", key) == ["18.7", "21.1", "22.3", "23.5", "failed"]
    other = page.locator("#table-leaderboard-images th[data-key='run'] button")
    other.click()
    assert header.get_attribute("aria-sort") is None
    assert column(page, "leaderboard-images", "run") == ["mae", "mae-r50", "mae-r90", "random", "supervised"]


def test_a_single_digit_mean_sorts_below_two_digits(page):
    """As text, "9.8 ± 10.8" would stand above "61.5 ± 10.8"."""
    page.click("#table-leaderboard-images th[data-key='linear_probe.top1'] button")
    assert [text.split()[0] for text in column(page, "leaderboard-images", "linear_probe.top1")] == [
        "61.5", "58.5", "55.5", "49.5", "9.8",
    ]  # fmt: skip


def test_fractions_and_signs_sort_as_numbers(page):
    """Digit group by digit group, 9.85 would stand above 9.9, and −1 above −2 and −10."""
    page.evaluate(
        """() => {
            const root = document.querySelector("#table-leaderboard-images table");
            const index = [...root.tHead.rows[0].cells].findIndex((cell) => cell.dataset.key === "knn.top1");
            ["9.9", "9.85", "-10", "-2", "1e-3"].forEach((worth, i) => {
                const cell = root.tBodies[0].rows[i].cells[index];
                cell.dataset.sort = cell.textContent = worth;
            });
        }"""
    )
    page.click("#table-leaderboard-images th[data-key='knn.top1'] button")
    assert column(page, "leaderboard-images", "knn.top1") == ["9.9", "9.85", "1e-3", "-2", "-10"]


def test_headings_work_from_the_keyboard(page):
    page.focus("#table-leaderboard-images th[data-key='mean_rank'] button")
    page.keyboard.press("Enter")
    assert column(page, "leaderboard-images", "mean_rank")[-2:] == ["–", "–"]


def test_rows_are_filtered_by_words_and_long_tables_shown_in_part(page):
    figure = page.locator("#table-cells")
    shown, said = figure.locator("tbody tr:visible"), figure.locator("output")
    assert shown.count() == 45 and said.inner_text() == "45" and not figure.locator(".all").is_visible()
    figure.locator("input").fill("mae-r50 k-nn")
    assert shown.count() == 2 and said.inner_text() == "2"
    page.evaluate("most = 3")
    figure.locator("input").fill("mae")
    assert shown.count() == 3 and said.inner_text() == "first 3 of 27"
    figure.locator("th[data-key='seed'] button").click()
    assert {row.locator("td").nth(1).inner_text() for row in shown.all()} == {"1"}, "the first of those sorted"
    figure.locator(".all").click()
    assert shown.count() == 27
    assert page.locator("#table-leaderboard-images .filter").count() == 0, "short tables need none"


def test_sorting_a_long_table_moves_only_the_rows_that_are_shown(page):
    """At 2,010 rows, moving all of them took half a second."""
    page.evaluate("most = 4")
    moved = page.evaluate(
        """() => {
            const body = document.querySelector("#table-cells tbody");
            const seen = new MutationObserver(() => {});
            seen.observe(body, { childList: true });
            document.querySelector("#table-cells th[data-key='run'] button").click();
            return seen.takeRecords().reduce((sum, record) => sum + record.addedNodes.length, 0);
        }"""
    )
    assert moved == 4
    shown = page.locator("#table-cells tbody tr:visible")
    assert {row.locator("td").first.inner_text() for row in shown.all()} == {"mae"} and shown.count() == 4
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    runs = column(page, "cells", "run")
    assert len(runs) == 45 and runs == sorted(runs), "paper has all rows in the order asked for"


def test_a_number_opens_the_manifests_behind_it(page, built):
    page.click("#table-leaderboard-images tbody tr:first-child td:nth-child(5) a")
    dialog = page.locator("dialog[open]")
    assert dialog.locator("details").count() == 2
    assert dialog.locator("details").first.evaluate("block => block.open")
    shown = dialog.locator("pre").first.inner_text()
    written = (built / "results/made/knn/mae-0/manifest.json").read_text()
    assert page.evaluate(
        "([a, b]) => JSON.stringify(JSON.parse(a)) === JSON.stringify(JSON.parse(b))", [shown, written]
    )
    assert "python -m stages.evaluate --study config/made.yaml --task knn --run mae --seed 0" in dialog.inner_text()
    assert "logs/made/knn/mae-0.log" in dialog.inner_text()
    page.click("#close")
    assert page.locator("dialog[open]").count() == 0


def test_a_command_is_copied_or_at_least_selected(page):
    page.click("#table-leaderboard-images tbody tr:first-child td:nth-child(5) a")
    for index, wanted in enumerate(("--task knn --run mae --seed 0", "make verify STUDY=made CELL=knn/mae-0")):
        button = page.locator("dialog[open] details >> nth=0").locator("button.copy").nth(index)
        button.click()
        page.wait_for_function("b => b.textContent !== 'Copy'", arg=button.element_handle())
        if button.inner_text() == "Selected":
            assert wanted in page.evaluate("getSelection().toString()")
        else:
            page.context.grant_permissions(["clipboard-read"])
            assert wanted in page.evaluate("navigator.clipboard.readText()")


def test_a_failed_cell_opens_its_error(page):
    page.click("#table-leaderboard-images td.failed a >> nth=0")
    assert NASTY in page.locator("dialog[open]").inner_text()


def test_a_phone_scrolls_tables_not_the_page(page):
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_paper_is_white_and_wide_enough_even_in_the_dark(page):
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 between usual margins
    shades = page.evaluate(
        "(({backgroundColor: g, color: i}) => [g, i])(getComputedStyle(document.querySelector('.notice')))"
    )
    assert shades == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert page.evaluate("document.querySelector('#leaderboard table').getBoundingClientRect().right") <= 718


@pytest.mark.parametrize("width", [1280, 1400, 1500, 1920])  # contents above, and from 93 rem on beside
def test_a_screen_shows_all_columns_of_the_leaderboard(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    hidden = "[...document.querySelectorAll('#leaderboard .scroll')].map(e => e.scrollWidth - e.clientWidth)"
    assert max(page.evaluate(hidden)) <= 0


def test_the_dark_scheme_is_dark(page):
    page.emulate_media(color_scheme="dark")
    ground, ink = page.evaluate("(({backgroundColor: g, color: i}) => [g, i])(getComputedStyle(document.body))")
    assert sum(map(int, ground[4:-1].split(","))) < 150 < 500 < sum(map(int, ink[4:-1].split(",")))


def test_the_evidence_of_a_large_study_is_a_page_beside_it(study, browser, monkeypatch):
    monkeypatch.setattr("pipeline.report.build.CELLS", 10)
    address = build(study).resolve()
    assert "c0ffeec0ffee" not in address.read_text().split('id="cells"')[1], "manifests are still in the page"
    page = browser.new_page()
    page.goto(address.as_uri())
    page.click("#table-leaderboard-images tbody tr:first-child td:nth-child(5) a")
    page.wait_for_url("**/evidence.html#cell-knn-mae-0")
    assert page.locator("#cell-knn-mae-0 pre").is_visible(), "the block that was asked for is open"
    page.close()
    monkeypatch.setattr("pipeline.report.build.CELLS", 500)
    assert build(study).read_text().count("c0ffeec0ffee") > 40 and not address.with_name("evidence.html").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["made/index.html", "index.html"])
def test_nothing_keeps_a_reader_out(built, browser, scheme, name):
    """axe-core's rules, of WCAG and its own best practices: no serious or critical finding, also with dialog open."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # the page admits no script but its own
    page = context.new_page()
    page.goto((built / "reports" / name).as_uri())

    def found():
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in axe.run(page).response["violations"]
                if one["impact"] in ("serious", "critical")]  # fmt: skip

    assert found() == []
    if name.startswith("made"):
        page.click("#table-leaderboard-images tbody tr:first-child td:nth-child(5) a")
        assert found() == []
        page.click("#close")  # while it is open, nothing else can be reached
    page.add_style_tag(content="h1 { color: #888; background: #999; }")
    assert len(found()) == 1, "a heading that can hardly be read is not found"
    context.close()
