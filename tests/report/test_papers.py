"""Reported numbers are read as printed, and each says whose word it is."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline.config import ConfigError
from pipeline.report.papers import all_quotes, load_quotes, quote_tables

MAE = Path(__file__).parents[2] / "config" / "papers" / "mae.yaml"


def test_all_of_maes_numbers_are_there():
    quotes = load_quotes(MAE)
    assert len(quotes) == 252
    assert Counter(quote.kind for quote in quotes) == {"paper": 180, "authors": 27, "third_party": 45}
    assert all(("MAE paper" in quote.source) == (quote.kind == "paper") for quote in quotes)
    assert all(quote.kind == "third_party" for quote in quotes if "third-party" in quote.source)


def test_tables_hold_every_quote_once_and_mix_no_sources():
    quotes = load_quotes(MAE)
    tables = quote_tables("mae", quotes)
    assert sum(len(table.rows) for table in tables) == len(all_quotes("mae", quotes).rows) == 252
    assert len({table.name for table in tables}) == len(tables)
    for table in tables:
        assert all(row[-1].text.startswith(table.title) for row in table.rows)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"value": "83.6"}, "expected a number"),
        ({"value": True}, "expected a number"),
        ({"kind": "rumour"}, "kind is 'rumour'"),
        ({"extra": 1}, "expected exactly the keys"),
        ({"higher_is_better": "yes"}, "expected true or false"),
    ],
)
def test_a_wrong_row_is_named(root, change, complaint):
    path = root / "config/papers/mae.yaml"
    rows = yaml.safe_load(path.read_text())
    rows[2] |= change
    path.write_text(yaml.safe_dump(rows))
    with pytest.raises(ConfigError, match=f"row 3.*{complaint}"):
        load_quotes(path)


def test_a_file_that_is_no_list_is_refused(root):
    path = root / "config/papers/mae.yaml"
    path.write_text("method: MAE\n")
    with pytest.raises(ConfigError, match="expected a list"):
        load_quotes(path)
