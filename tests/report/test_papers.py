"""Reported numbers are read as printed, and each says whose word it is."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline.config import ConfigError
from pipeline.report.papers import all_quotes, load_quotes, quote_tables

PAPERS = Path(__file__).parents[2] / "config" / "papers"
MAE = PAPERS / "mae.yaml"
# Method to how many numbers of each kind.
KINDS = {
    "dbot": {"authors": 25, "paper": 1, "second_hand": 1},
    "maskdistill": {"paper": 2, "second_hand": 2, "third_party": 6, "authors": 6},
    "imae": {"authors": 12, "third_party": 6},
    "clmae": {"authors": 12, "third_party": 4},
    "mixmask": {"authors": 31, "third_party": 13},
    "m3ae": {"paper": 27, "second_hand": 4},
    "meta_multilabel": {"authors": 3, "third_party": 15},
}


def test_all_of_maes_numbers_are_there():
    quotes = load_quotes(MAE)
    assert len(quotes) == 252
    assert Counter(quote.kind for quote in quotes) == {"paper": 180, "authors": 27, "third_party": 45}
    assert all(("MAE paper" in quote.source) == (quote.kind == "paper") for quote in quotes)
    assert all(quote.kind == "third_party" for quote in quotes if "third-party" in quote.source)


@pytest.mark.parametrize("method", KINDS)
def test_every_method_quotes_its_literature(method):
    quotes = load_quotes(PAPERS / f"{method}.yaml")
    assert Counter(quote.kind for quote in quotes) == KINDS[method]
    rows = Counter(
        (q.method, q.model, q.pretrain_data, q.pretrain_epochs, q.task, q.dataset, q.metric, q.source) for q in quotes
    )
    assert max(rows.values()) == 1, "a number stands there twice"


def test_known_numbers_stand_where_they_belong():
    (headline,) = [q for q in load_quotes(PAPERS / "maskdistill.yaml") if q.value == 88.3]
    assert (headline.model, headline.kind, headline.place) == ("ViT-H/14", "paper", "MaskDistill abstract")
    (quoted,) = [q for q in load_quotes(PAPERS / "maskdistill.yaml") if q.value == 53.8]
    assert quoted.kind == "second_hand"
    (random,) = [q for q in load_quotes(PAPERS / "dbot.yaml") if q.value == 77.3]
    assert (random.kind, random.pretrain_epochs) == ("second_hand", 0)
    assert {q.value for q in load_quotes(PAPERS / "mixmask.yaml") if "MixMask" in q.method} == {69.2, 69.5}


def test_the_words_of_others_come_last_and_say_so():
    quotes = load_quotes(PAPERS / "maskdistill.yaml")
    tables = quote_tables("maskdistill", quotes)
    marks = [{row[-2].note for row in table.rows} for table in tables]
    assert marks == [{""}, {""}, {"second hand"}, {"second hand"}, {"third party"}]
    assert [table.caption.startswith("Quoted, second hand:") for table in tables] == [False, False, True, True, False]
    kinds = {q.value: q.kind for q in quotes}
    for table, (mark,) in zip(tables, marks, strict=True):
        assert all((kinds[row[-2].value] in ("second_hand", "third_party")) == bool(mark) for row in table.rows)


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
