"""All records for programs: numbers to the last bit, and a schema that holds them."""

import csv
import io
import json

import pytest

from pipeline.report.export import FIELDS, results_csv, results_schema
from pipeline.report.grid import read_grid

from .made import make_study, publish

READ = {"string": str, "integer": int, "number": float, "boolean": {"true": True, "false": False}.__getitem__}


@pytest.fixture
def rows(study):
    """The rows as the schema says they are to be read."""
    schema = json.loads(results_schema())
    types = {field["name"]: READ[field["type"]] for field in schema["fields"]}
    read = csv.DictReader(io.StringIO(results_csv(read_grid(study))))
    assert read.fieldnames == list(types)
    return [
        {key: None if text in schema["missingValues"] else types[key](text) for key, text in row.items()}
        for row in read
    ]


def test_every_record_is_a_row_of_the_schema(rows, study):
    schema = json.loads(results_schema())
    grid = read_grid(study)
    assert len(rows) == sum(len(outcome.manifest["records"]) for outcome in grid.outcomes if outcome.status == "done")
    required = [field["name"] for field in schema["fields"] if field.get("constraints", {}).get("required")]
    assert all(row[key] is not None for row in rows for key in required)
    keys = [tuple(row[key] for key in schema["primaryKey"]) for row in rows]
    assert len(set(keys)) == len(keys) and all(field["description"] for field in schema["fields"])


def test_rows_say_where_a_number_comes_from(rows, study):
    (row,) = [r for r in rows if (r["stage"], r["run"], r["metric"]) == ("detect", "mae-r50", "mask_ap")]
    outcome = next(o for o in read_grid(study).outcomes if o.key == "detect/mae-r50-0")
    assert row["value"] == outcome.record("mask_ap")["value"]
    assert (row["data"], row["source"], row["method"], row["model"]) == ("scenes", "scenes_coco", "mae", "vit_micro")
    assert (row["headline"], row["higher_is_better"], row["unit"], row["count"]) == (True, True, "%", 500)
    assert row["digest"] == outcome.manifest["digest"] and row["manifest"] == str(outcome.node.manifest)
    assert row["commit"].startswith("c0ffee") and row["seconds"] == 61.25


def test_numbers_come_back_to_the_last_bit_and_gaps_stay_gaps(root):
    study, value = make_study(), 100 / 3 + 1e-12
    record = {
        "metric": "top1",
        "value": value,
        "unit": "",
        "higher_is_better": False,
        "count": None,
        "interval": [1 / 3, 70.1],
    }
    publish(study, "knn", "mae", 0, records=[record, {**record, "metric": "gap", "value": None, "interval": None}])
    first, gap = csv.DictReader(io.StringIO(results_csv(read_grid(study))))
    assert (float(first["value"]), float(first["low"]), float(first["high"])) == (value, 1 / 3, 70.1)
    assert (first["count"], first["unit"], first["higher_is_better"], gap["value"], gap["low"]) == (
        "",
        "",
        "false",
        "",
        "",
    )
    assert set(FIELDS) == set(first)
