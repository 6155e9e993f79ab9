"""The report as files: its numbers are the manifests', its gaps are said, its bytes depend on no more."""

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from scipy import stats

import pipeline.report.build
import stages.report
from pipeline import manifest
from pipeline.report.build import LIMIT, build, headline
from pipeline.report.grid import read_grid
from pipeline.report.provenance import problems
from tests.small import folder as folder_of

from .made import NASTY, fill, make_study, publish, value_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(built, monkeypatch):
    """The text of the built report, in whose project the test then stands."""
    monkeypatch.chdir(built)
    return Path("reports/made/index.html").read_text()


def table(name):
    with open(f"reports/made/tables/{name}.csv", newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def test_the_leaderboard_holds_the_manifests_numbers(page):
    rows = table("leaderboard-images")
    values = [value_of("knn", "top1", "mae", seed) for seed in (0, 1)]
    low, high = stats.t.interval(
        0.95, 5, loc=sum(values) / 2, scale=stats.sem(values)
    )  # of five runs that spread alike
    assert float(rows["mae"]["knn.top1"]) == pytest.approx(sum(values) / 2)
    assert float(rows["mae"]["knn.top1_low"]) == pytest.approx(low)
    assert float(rows["mae"]["knn.top1_high"]) == pytest.approx(high)
    assert (rows["mae"]["knn.top1_interval"], rows["mae"]["knn.top1_num_seeds"]) == ("pooled", "2")
    assert rows["mae"]["finetune.top1_interval"] == "cell"
    assert float(rows["mae"]["segment.miou"]) == value_of("segment", "miou", "mae", 0)
    assert [run for run, row in rows.items() if row["mean_rank"]] == ["mae", "supervised", "mae-r90"]
    assert f"{sum(values) / 2:.1f} <span" in page


def test_every_record_is_exported_as_measured(page):
    with open("reports/made/tables/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 5 * 2 + 5 + 4 * 4 + 4 * 3  # two probes, fine-tuning, four detections, four segmentations
    for row in rows:
        assert float(row["value"]) == pytest.approx(value_of(row["stage"], row["metric"], row["run"], int(row["seed"])))
        assert Path(row["manifest"]).is_file()


def test_what_failed_or_is_missing_says_so_everywhere(page):
    rows = table("leaderboard-images")
    assert rows["random"]["detect.box_ap"] == "failed"
    assert rows["mae-r50"]["segment.miou"] == "not run"
    assert rows["random"]["mean_rank"] == rows["mae-r50"]["mean_rank"] == ""
    assert NASTY not in page  # escaped, so that no error message can become markup
    assert "loss is nan at step 7: &lt;b&gt;lr&lt;/b&gt; &amp; &#34;scale&#34; | 100 % of $x_i$" in page
    assert re.search(r"<b>43</b> done.*<b>1</b> failed.*<b>1</b> not run", page, re.DOTALL)
    markdown = Path("reports/made/tables/task-detect.md").read_text()
    assert "random, seed 0, failed: loss is nan at step 7" in markdown


def test_a_demo_says_that_it_is_not_comparable(page):
    assert "Not comparable with the papers." in page
    assert 'id="comparison"' not in page
    assert not list(Path("reports/made/tables").glob("compared-*"))
    assert "not comparable with any paper's numbers" in headline(read_grid(make_study()))


def test_at_paper_scale_the_comparison_stands_in_its_place(root):
    study = make_study(scale="paper")
    fill(study)
    page = build(study).read_text()
    assert "Not comparable with the papers." not in page
    assert 'id="comparison"' in page
    with open("reports/made/tables/compared-made-paper-table-1.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["within", "outside"]
    assert rows[0]["source"] == "Made paper Table 1"


def test_quotes_stand_apart_from_measurements(page):
    measured, _, quoted = page.partition('<section id="quoted"')
    assert "Made paper" not in measured
    assert quoted.count("Made paper Table 1") >= 2
    assert table("leaderboard-images").keys() == {"random", "supervised", "mae", "mae-r50", "mae-r90"}


def test_every_table_comes_in_four_notations(page):
    names = {path.stem for path in Path("reports/made/tables").glob("*.tex")} - {"all"}
    assert {"leaderboard-images", "costs", "cells", "quoted-mae", "task-knn", "task-segment"} <= names
    for name in names:
        for suffix in ("csv", "md", "tex", "json"):
            assert Path(f"reports/made/tables/{name}.{suffix}").stat().st_size > 0
        json.loads(Path(f"reports/made/tables/{name}.json").read_text())


def test_the_page_is_whole_and_small(page):
    assert len(page.encode()) < LIMIT
    assert not re.search(r'(src|href)="(https?:)?//', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors <= set(ids)


def test_the_same_records_give_the_same_bytes(page, study, built):
    Path("reports/made/tables").mkdir(parents=True)
    Path("reports/made/tables/stale.csv").write_text("from an earlier report")
    build(study)
    for folder in (Path.cwd(), built):
        assert (folder / "reports/made/index.html").is_file()
    assert contents(Path.cwd()) == contents(built)


def contents(root):
    report = root / "reports/made"
    return {str(path.relative_to(report)): path.read_bytes() for path in report.rglob("*") if path.is_file()}


def test_the_report_names_what_it_was_made_from(page):
    whole = json.loads(Path("reports/made/manifest.json").read_text())
    assert len(whole["inputs"]) == 43 + 3 + 1 + 2  # cells done, data sets, the study, MAE's quotes and comparisons
    for path, entry in whole["inputs"].items():
        assert manifest.sha256(Path(path)) == entry["sha256"]
    for path, entry in whole["artefacts"].items():
        assert manifest.sha256(Path("reports/made") / path) == entry["sha256"]


def test_tampered_files_and_moved_settings_are_told(study):
    (folder_of(study, "pretrain", "mae", 0) / "files/picture.png").write_bytes(b"tampered")
    settings = study.settings("knn", "mae")
    publish(study, "knn", "mae", 0, settings={**settings, "num_neighbours": 10})
    page = build(study).read_text()
    assert "pretrain/mae-0: files/picture.png is missing or was changed" in page
    assert "knn/mae-0 was measured with other settings than the study has now: num_neighbours" in page


def test_a_study_of_which_nothing_ran_still_has_a_report(root):
    page = build(make_study()).read_text()
    assert "<b>0</b> done" in page
    assert "<b>45</b> not run" in page
    assert set(table("leaderboard-images")["mae"].values()) == {"mae", "not run", ""}
    assert "not prepared" in page
    assert Path("reports/made/figures").is_dir()  # the workflow promises it, even empty


def test_the_headline_fits_a_terminal(study):
    lines = headline(read_grid(study)).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "Study made (demo scale): 43 done, 1 failed, 1 not run of 45 cells"
    assert lines[2].startswith("Images: mae leads 2 runs, mean rank 1.0 over 5 tasks")
    assert any(re.match(r"mae +1\.0 +61\.9 ± 2\.2 ", line) for line in lines)


def test_the_report_never_imports_torch():
    code = "import sys, stages.report; sys.exit('torch' in sys.modules or 'mmengine' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_nothing_is_read_or_rendered_twice(study, monkeypatch):
    """Each part of the report did so for itself, which took more than half of the time of a study of thousands."""
    done = Counter()

    def counted(module, name):
        call = getattr(module, name)

        def count(first, *arguments, **more):
            if isinstance(first, (str, Path)):
                done[name, str(first)] += 1
            return call(first, *arguments, **more)

        monkeypatch.setattr(module, name, count)

    counted(manifest, "read")
    counted(manifest, "sha256")
    counted(pipeline.report.build, "render")
    build(study)
    assert {name for name, _ in done} == {"read", "sha256", "render"}
    assert [key for key, times in done.items() if times > 1] == []


def test_the_stage_answers_a_missing_study_in_one_line(root, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report", "--study", "config/nowhere.yaml"])
    with pytest.raises(SystemExit) as left:
        stages.report.main()
    assert left.value.code.startswith("error: there is no study config/nowhere.yaml; available:")


def test_what_was_made_from_other_files_than_there_are_now_is_told(study):
    assert not [told for told in problems(read_grid(study)) if "was made from another" in told]
    files = Path("work/again/files")
    files.mkdir(parents=True)
    (files / "train.pack").write_bytes(b"another pack")
    now = manifest.publish(Path("data/digits"), files, {"stage": "prepare", "inputs": {}})["digest"]
    told = [told for told in problems(read_grid(study)) if "was made from another data than" in told]
    assert len(told) == len(read_grid(study).select(status="done"))
    assert "data/digits/manifest.json describes now" in told[0] and f"now {now[:12]}" in told[0]
