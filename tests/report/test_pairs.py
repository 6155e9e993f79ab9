"""Two runs side by side: the page's differences and intervals against SciPy's, and all that it shows of the two."""

import json
import re
from itertools import count

import numpy as np
import pytest
from scipy import stats

from pipeline.report.build import build
from pipeline.report.grid import read_grid
from pipeline.report.pairs import shared_spread
from pipeline.statistics import difference_interval

from .made import make_run, make_study, publish, record, value_of, with_runs

pytestmark = pytest.mark.timeout(300)
JITTER = np.random.default_rng(7).normal(0, 0.6, (5, 2))


@pytest.fixture
def noisy(study):
    """The made-up study whose runs do not all gain the same from a seed, and one whose name is markup."""
    order = count()
    for run in study.runs:
        row = next(order)
        for seed in (0, 1):
            value = value_of("knn", "top1", run, seed) + JITTER[row, seed]
            publish(study, "knn", run, seed, records=[record("top1", value)])
    return study


@pytest.fixture
def shown(browser):
    """Opens a page of comparisons at two runs; nothing but files of its folder is asked for, nothing fails."""
    pages = []

    def show(index, a, b):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.troubles = []
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("console", lambda message: page.troubles.append(message.text))
        page.on("requestfailed", lambda request: page.troubles.append(request.url))
        page.goto(f"{index.resolve().with_name('compare.html').as_uri()}#{a},{b}")
        pages.append(page)
        return page

    yield show
    for page in pages:
        assert page.troubles == []
        page.close()


def row(page, task, metric="top-1"):
    """The texts of one row of the results."""
    line = page.locator("#differences tbody tr").filter(has_text=task).filter(has_text=metric)
    texts = [cell.inner_text().replace("−", "-") for cell in line.locator("th, td").all()]
    return dict(
        zip(("task", "difference", "interval", "a", "b", "seeds"), texts, strict=True),
        verdict=line.get_attribute("data-verdict"),
    )


def bounds(text):
    return [float(number) for number in re.search(r"\[(\S+),\s(\S+)\]", text).groups()]


def test_differences_of_shared_seeds_have_the_pooled_paired_interval(noisy, shown):
    page = shown(build(noisy), "mae", "mae-r90")
    values = {run: [value_of("knn", "top1", run, s) + JITTER[i, s] for s in (0, 1)] for i, run in enumerate(noisy.runs)}
    rows = np.array(list(values.values()))
    left = rows - rows.mean(1, keepdims=True) - rows.mean(0) + rows.mean()
    half = stats.t.ppf(0.975, 4) * np.sqrt((left**2).sum() / 4)  # √(2 / n) is 1 at two seeds
    centre = np.mean(values["mae"]) - np.mean(values["mae-r90"])
    found = row(page, "k-nearest neighbours")
    assert float(found["difference"]) == pytest.approx(centre, abs=0.051)
    assert bounds(found["interval"]) == pytest.approx([centre - half, centre + half], abs=0.051)
    assert "pooled" in found["interval"] and found["verdict"] == "ahead"
    told = [float(value) for value in re.findall(r"\d: (\S+?)(?:,|$)", found["seeds"])]
    assert told == pytest.approx(np.subtract(values["mae"], values["mae-r90"]), abs=0.0051)
    page.click("#swap")
    swapped = row(page, "k-nearest neighbours")
    assert float(swapped["difference"]) == -float(found["difference"]) and swapped["verdict"] == "behind"
    assert page.url.endswith("#mae-r90,mae")


def test_two_runs_that_share_no_spread_have_the_paired_t_test(study, browser, shown):
    two = with_runs(make_study(), study.runs["mae"], study.runs["mae-r50"])
    for run, values in (("mae", [61.0, 63.0]), ("mae-r50", [60.0, 60.4])):
        for seed, value in enumerate(values):
            publish(two, "knn", run, seed, records=[record("top1", value)])
    assert shared_spread(read_grid(two), "knn", "top1") == (None, [])
    found = row(shown(build(two), "mae", "mae-r50"), "k-nearest neighbours")
    low, high = stats.ttest_rel([61.0, 63.0], [60.0, 60.4]).confidence_interval(0.95)
    assert bounds(found["interval"]) == pytest.approx([low, high], abs=0.051)
    assert "own" in found["interval"] and found["verdict"] == "level"


def test_one_seed_of_each_has_the_interval_within_cells_or_none(built, study, shown):
    page = shown(built / "reports/made/index.html", "mae", "mae-r90")
    grid = read_grid(study)
    expected = difference_interval(*(grid.estimate("finetune", run, "top1") for run in ("mae", "mae-r90")))
    found = row(page, "Fine-tuning")
    assert bounds(found["interval"]) == pytest.approx(expected, abs=0.051)
    assert "within cells" in found["interval"] and found["verdict"] == "ahead"
    found = row(page, "Semantic segmentation", "mIoU")
    assert "no interval" in found["interval"] and found["verdict"] == "unsure"
    assert "ahead of mae-r90 by more than the interval in" in page.inner_text("#verdict")


def test_settings_curves_and_pictures_stand_side_by_side(built, shown):
    page = shown(built / "reports/made/index.html", "mae", "mae-r50")
    lines = [line.inner_text().split("\t") for line in page.locator("#settings-table tbody tr").all()]
    differing = [line for line in lines if line[0] != "Cost"]
    assert [line[1:] for line in differing] == [["options.mask_ratio", "0.75", "0.5"]]
    assert [line[2] for line in lines if line[0] == "Cost"] == ["1.0 min", "1,960 images/s"]
    figures = page.locator("#curve-panels figcaption").all_inner_texts()
    assert figures[:2] == ["A: mae, pretraining", "B: mae-r50, pretraining"]
    assert "Fine-tuning; A: mae, B (dashed): mae-r50" in figures
    assert page.locator("#curve-panels svg").nth(0).locator("path").count() == 2, "one line per seed"
    pictures = page.locator("#picture-pairs img")
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
    page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert pictures.count() == 5 and page.locator("#picture-pairs .missing").inner_text() == "mae-r50: none"
    page.select_option("#run-b", "random")
    assert "random: none" in page.inner_text("#curve-panels")


def test_other_metrics_are_shown_when_asked_for(built, shown):
    page = shown(built / "reports/made/index.html", "mae", "mae-r90")
    rows = page.locator("#differences tbody tr")
    few = rows.count()
    page.check("#others")
    assert few == 6 and rows.count() == 3 + 4 + 3


def test_names_are_never_markup(study, shown):
    """Whatever manifests hold, the data cannot end its script and texts stay texts."""
    nasty = 'a</script><img src=x onerror="boom()">'
    one = {"metric": nasty, "value": 1.0, "unit": nasty, "higher_is_better": True, "count": 5, "interval": None}
    for run in ("mae", "random"):
        publish(study, "finetune", run, 0, records=[one])
    page = shown(build(study), "mae", "random")
    page.check("#others")
    assert nasty in page.inner_text("#differences")


def test_the_page_stays_small_at_many_runs(root):
    """What it holds grows with the runs, not with their pairs."""
    sizes = []
    for number in (10, 20):
        runs = [make_run(f"mae-{i}", "mae", changes={"options.mask_ratio": i / 50}) for i in range(number)]
        study = with_runs(make_study(), *runs)
        for run in runs:
            for seed in (0, 1):
                publish(study, "knn", run.name, seed)
        page = build(study).with_name("compare.html").read_text()
        sizes.append(len(page))
        data = json.loads(re.search(r'id="pairs">(.*?)</script>', page, re.DOTALL)[1])
        assert len(data["runs"]) == number
    assert sizes[1] - sizes[0] < 10 * 1500


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_a_reader_out(built, browser, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto((built / "reports/made/compare.html").as_uri())
    found = [one for one in axe.run(page).response["violations"] if one["impact"] in ("serious", "critical")]
    assert [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
