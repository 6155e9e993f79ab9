"""Running cells again: what two manifests differ in, and what the command says of cells that it cannot find."""

import copy
import subprocess
import sys

import pytest

from stages.verify import compare

MANIFEST = {
    "settings": {"train": {"lr": 0.1, "steps": 5}},
    "inputs": {"data": {"manifest": "data/digits/manifest.json", "digest": "d1"}},
    "records": [{"metric": "top1", "value": 54.25}, {"metric": "top5", "value": None}],
    "artefacts": {f"files/{i}.bin": {"sha256": str(i)} for i in range(6)},
    "provenance": {"started": "yesterday"},
}


def changed(**changes):
    return copy.deepcopy(MANIFEST) | changes


def test_time_and_place_make_no_difference():
    assert compare(MANIFEST, changed(provenance={"started": "today"}, cost={"seconds": 3})) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"settings": {"train": {"lr": 0.2, "steps": 5}}}, "settings differ in train.lr"),
        ({"inputs": {"data": {"digest": "d2"}}}, "another data was read"),
        (
            {"records": [{"metric": "top1", "value": 54.5}, {"metric": "top5", "value": None}]},
            "top1 54.25 and now 54.5",
        ),
        ({"records": []}, "top1 54.25 and now None"),
        ({"artefacts": {**MANIFEST["artefacts"], "files/0.bin": {"sha256": "x"}}}, "other bytes in files/0.bin"),
        ({"artefacts": {}}, "other bytes in files/0.bin, files/1.bin, files/2.bin, files/3.bin and 2 more"),
    ],
)
def test_each_difference_is_named(changes, told):
    assert compare(MANIFEST, changed(**changes)) == [told]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--study", "config/none.yaml"], "error: there is no study config/none.yaml"),
        (["--num", "0"], "received '0'; expected a whole number of at least 1"),
        (["--study", "config/smoke.yaml", "knn/none-0"], "error: no cell of config/smoke.yaml is done; run"),
    ],
)
def test_what_cannot_be_run_again_is_told(arguments, told):
    done = subprocess.run([sys.executable, "-m", "stages.verify", *arguments], capture_output=True, text=True)
    assert done.returncode and told in done.stderr and "Traceback" not in done.stderr
