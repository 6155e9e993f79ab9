"""Documents in the layouts of Reuters and RCV1, with what can be wrong in them."""

import shutil
import tempfile
from pathlib import Path

import pytest

from pipeline.config import ConfigError
from pipeline.data.kinds import text
from pipeline.data.packed import Packed
from pipeline.data.sources.text import documents
from pipeline.data.texts import read_labels
from tests.methods import recipe

USUAL = {"encoding": "utf-8", "val_share": 0.3, "vocabulary_size": 100, "expect": None, "max_reject_share": 1.0,
         "num_workers": 2, "shard_mib": 1, "seed": 0}  # fmt: skip
HIERARCHY = """parent: None child: Root child-description: Root
parent: Root child: CCAT child-description: CORPORATE/INDUSTRIAL
parent: CCAT child: C15  child-description: PERFORMANCE
parent: C15 child: C151 child-description: ACCOUNTS/EARNINGS
parent: Root child: MCAT child-description: MARKETS
"""


@pytest.fixture
def prepare(tmp_path):
    def run(layout, **changes):
        shutil.rmtree(tmp_path / "files", ignore_errors=True)
        (tmp_path / "files").mkdir()
        options = documents.Options(**USUAL | {"root": str(tmp_path / "root"), "layout": layout} | changes)
        return documents.prepare(options, Path(tempfile.mkdtemp(dir=tmp_path)), tmp_path / "files")

    return run


@pytest.fixture
def reuters(tmp_path):
    root = tmp_path / "root"
    for folder, count in (("training", 20), ("test", 4)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / str(number)).write_text(f"COCOA prices rose, said Mr. {number}")
    lines = [f"training/{number} cocoa{' grain' * (number % 2)}" for number in range(20)]
    (root / "cats.txt").write_text("\n".join([*lines, *(f"test/{number} cocoa trade" for number in range(4))]) + "\n")
    return root


def reasons(told):
    return {found["file"]: found["reason"] for found in told["rejects"]["first"]}


def test_reuters_as_nltk_lays_it_out(reuters, prepare, tmp_path):
    told = prepare("reuters")
    counts = {split: entry["count"] for split, entry in told["splits"].items()}
    assert counts["train"] + counts["val"] == 20 and 2 <= counts["val"] <= 11 and counts["test"] == 4
    assert told["classes"] == ["cocoa", "grain", "trade"] and told["rejects"]["count"] == 0
    assert told["unseen"] == {"labels": {"count": 1, "first": ["trade"]}, "sets": {"val": 0, "test": 4}}
    assert b'"tokens": ["cocoa", "prices", "rose", ",", "said", "mr", ".", "0"]' in Packed(
        tmp_path / "files", "test"
    ).read(0)
    settings = recipe("meta_multilabel") | {"text": {"context": 0, "length": 5}, "model": "text_cnn_micro"}
    batch = text.open_train(tmp_path, settings, seed=0).__getitems__([(0, 0)])
    assert batch["text"].shape == (1, 2, 5) and (batch["text"][0, 1] == text.MENTION).all()


def test_what_is_wrong_with_documents_of_reuters(reuters, prepare):
    (reuters / "training/3").unlink()
    (reuters / "training/4").write_bytes(b"Z\xfcrich")
    (reuters / "training/5").write_text(" \n")
    (reuters / "training/99").write_text("a stray")
    (reuters / "cats.txt").write_text((reuters / "cats.txt").read_text().replace("training/6 cocoa\n", "training/6\n"))
    told = prepare("reuters")
    assert reasons(told) == {
        "training/3": f"[Errno 2] No such file or directory: '{reuters.resolve()}/training/3'",
        "training/4": "no text in UTF-8 (invalid start byte at byte 1)",
        "training/5": "no tokens",
        "training/6": "no type or topic",
        "training/99": "not in cats.txt",
    }
    assert prepare("reuters", encoding="iso-8859-2")["rejects"]["count"] == 4


@pytest.mark.parametrize("line", ["train/1 cocoa", "training/x cocoa", "training/1 cocoa\ntraining/1 grain", ""])
def test_a_list_of_topics_that_is_none(reuters, prepare, line):
    (reuters / "cats.txt").write_text(f"test/0 cocoa\n{line}\n")
    with pytest.raises(ConfigError, match=r"cats\.txt, line [23], is .*; expected a document, once, with its topics"):
        prepare("reuters")
    (reuters / "cats.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cats\.txt is no text in UTF-8"):
        prepare("reuters")


@pytest.fixture
def rcv1(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / documents.TREE).write_text(HIERARCHY)
    (root / documents.TOPICS).write_text("".join(f"CCAT {n} 1\nC15 {n} 1\nC151 {n} 1\n" for n in range(1, 40)))
    for part, name in enumerate(documents.TOKENS):
        ids = range(1, 20) if not part else range(15 + 5 * part, 20 + 5 * part)
        (root / name).write_text("".join(f".I {number}\n.W\nrecov profit\nexcit w{number}\n\n" for number in ids))
    return root


def test_rcv1_s_token_files(rcv1, prepare, tmp_path):
    told = prepare("rcv1")
    assert told["splits"]["train"]["count"] + told["splits"]["val"]["count"] == 19
    assert told["splits"]["test"]["count"] == 20 and told["rejects"]["count"] == 0
    labels = read_labels(tmp_path / "files")
    assert dict(zip(labels.names, labels.depths.tolist(), strict=True)) == {"C15": 2, "C151": 3, "CCAT": 1, "MCAT": 1}
    assert b'["recov", "profit", "excit", "w20"]' in Packed(tmp_path / "files", "test").read(0)


def test_what_is_wrong_with_documents_of_rcv1(rcv1, prepare):
    test = rcv1 / documents.TOKENS[1]
    test.write_bytes(test.read_bytes() + b".I 77\n.W\nno topic\n.I 5\n.W\ntwice\n.I 31\n.W\n\n.I 32\n.W\n\xff\n.W\n")
    with (rcv1 / documents.TOPICS).open("a") as file:
        file.write("GHOST 20 1\n")
    assert reasons(prepare("rcv1")) == {
        "lyrl2004_tokens_test_pt0.dat, document 20": "the topic 'GHOST' is outside the hierarchy",
        "lyrl2004_tokens_test_pt0.dat, document 77": "no type or topic",
        "lyrl2004_tokens_test_pt0.dat, document 5": "document 5 is there twice",
        "lyrl2004_tokens_test_pt0.dat, document 31": "no tokens",
        "lyrl2004_tokens_test_pt0.dat, document 32": "no tokens",
        "lyrl2004_tokens_test_pt2.dat, document 31": "document 31 is there twice",
        "lyrl2004_tokens_test_pt2.dat, document 32": "document 32 is there twice",
    }


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ("parent: Root kid: X", "expected a parent and a child"),
        ("parent: A child: B\nparent: B child: A", "do not lead to Root"),
    ],
)
def test_a_tree_that_is_none(rcv1, prepare, tree, words):
    (rcv1 / documents.TREE).write_text(tree)
    with pytest.raises(ConfigError, match=words):
        prepare("rcv1")


def test_a_share_to_hold_out_is_needed(rcv1, prepare):
    with pytest.raises(ConfigError, match=r"val_share is 0; expected a share of the training documents"):
        prepare("rcv1", val_share=0.0)
