"""Packing goes on after a kill at any moment, and ends with the bytes of one that was left in peace."""

import json
import os
import signal

import pytest

from pipeline.config import ConfigError, DataSet
from pipeline.data import inspection
from pipeline.data.packed import PackWriter
from pipeline.data.prepare import prepare
from tests.data.sources.conftest import ade20k, coco, imagenet  # noqa: F401  the layouts

KINDS = {"imagenet": "images", "coco": "detection", "ade20k": "segmentation"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(inspection, "_BLOCK", 2)


def run(source, root, home, **changes):
    options = {"root": str(root), "expect": None, "max_reject_share": 0.2, "shard_mib": 0} | changes
    spec = DataSet(kind=KINDS[source], name=source, source=source, options=options)
    data = prepare(spec, home / "work", home / "files")
    return data, {
        str(p.relative_to(home / "files")): p.read_bytes() for p in (home / "files").rglob("*") if p.is_file()
    }


def killed(source, root, home, moment, **changes):
    """Runs in a process that is killed before its `moment`-th write, sync or rename; False if it came to its end."""
    child = os.fork()
    if child == 0:
        left = moment

        def counted(function, flush):
            def call(*arguments, **named):
                nonlocal left
                left -= 1
                if left == 0:
                    file = getattr(arguments[0], "_file", None)
                    if flush and file is not None:
                        file.write(b"half a file")
                        file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return call

        PackWriter.add = counted(PackWriter.add, flush=moment % 2)
        os.fsync, os.replace = counted(os.fsync, flush=False), counted(os.replace, flush=False)
        try:
            run(source, root, home, **changes)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def spoil(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("shard_mib", [0, 1], ids=["a shard a file", "one shard"])
@pytest.mark.parametrize("source", KINDS)
def test_killed_at_any_moment_it_ends_with_the_same_bytes(source, shard_mib, request, tmp_path, capfd):
    root = request.getfixturevalue(source)
    if source == "imagenet":
        spoil(root / "train/n01443537/n01443537_2.JPEG")
        spoil(root / "val/n01443537/ILSVRC2012_val_00000003.JPEG")
    expected = run(source, root, tmp_path / "whole", shard_mib=shard_mib)
    resumed, moment = [], 0
    while True:
        moment += 3
        home = tmp_path / f"{moment}"
        if not killed(source, root, home, moment, shard_mib=shard_mib):
            break
        killed(source, root, home, 4, shard_mib=shard_mib)  # and once more, soon
        capfd.readouterr()
        assert run(source, root, home, shard_mib=shard_mib) == expected, f"killed at moment {moment}"
        resumed.append("were packed before" in capfd.readouterr().err)
    assert len(resumed) > 5 and sum(resumed) > len(resumed) / 2


def test_what_was_packed_is_not_read_again(imagenet, tmp_path, monkeypatch):  # noqa: F811
    home, read, real = tmp_path / "home", [], inspection.open_whole
    monkeypatch.setattr(inspection, "open_whole", lambda data: read.append(data) or real(data))
    expected = run("imagenet", imagenet, tmp_path / "whole")
    assert killed("imagenet", imagenet, home, 55) and (home / "files/val-00002.bin").exists()
    read.clear()
    assert run("imagenet", imagenet, home) == expected
    assert 0 < len(read) <= 4, "of 18: a block begun and what was never read"


def test_a_reject_that_was_copied_again_is_taken(imagenet, tmp_path):  # noqa: F811
    home, path = tmp_path / "home", imagenet / "train/n01443537/n01443537_2.JPEG"
    whole = path.read_bytes()
    spoil(path)
    with pytest.raises(ConfigError, match="1 of 18 files"):
        run("imagenet", imagenet, home, max_reject_share=0)
    path.write_bytes(whole)
    assert run("imagenet", imagenet, home) == run("imagenet", imagenet, tmp_path / "whole")


def test_other_files_begin_anew(imagenet, tmp_path, capfd):  # noqa: F811
    run("imagenet", imagenet, tmp_path / "home")
    (imagenet / "train/n01443537/n01443537_0.JPEG").unlink()
    expected = run("imagenet", imagenet, tmp_path / "whole")
    capfd.readouterr()
    assert run("imagenet", imagenet, tmp_path / "home") == expected
    told = capfd.readouterr().err
    assert "packing train: 11 in" in told and "packing val: 6 of 6 were packed before" in told


def test_a_shard_that_was_lost_is_written_again(imagenet, tmp_path):  # noqa: F811
    expected = run("imagenet", imagenet, tmp_path / "home")
    (tmp_path / "home/files/train-00005.bin").write_bytes(b"")
    assert run("imagenet", imagenet, tmp_path / "home") == expected


def test_a_journal_that_was_cut_off_counts_as_far_as_it_goes(imagenet, tmp_path, capfd):  # noqa: F811
    expected = run("imagenet", imagenet, tmp_path / "home")
    path = tmp_path / "home/work/journals/train.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 7 and json.loads(lines[1])[1]["count"] == 2
    path.write_text("".join(lines[:3]) + lines[3][:30])
    capfd.readouterr()
    assert run("imagenet", imagenet, tmp_path / "home") == expected
    assert "packing train: 4 of 12 were packed before" in capfd.readouterr().err


def test_it_says_what_it_read_rejected_and_wrote_and_uses_all_its_cpus(imagenet, tmp_path, capfd, monkeypatch):  # noqa: F811
    spoil(imagenet / "train/n01443537/n01443537_2.JPEG")
    pools, real = [], inspection.ThreadPoolExecutor
    monkeypatch.setattr(inspection, "ThreadPoolExecutor", lambda number: pools.append(number) or real(number))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(5))
    run("imagenet", imagenet, tmp_path / "home", shard_mib=1)
    assert pools == [5, 5]
    told = capfd.readouterr().err
    assert "imagenet: read 18 files, rejected 1, noted 2 as odd; wrote 17 in 2 shards of 0.0 MiB" in told
    run("imagenet", imagenet, tmp_path / "other", num_workers=3)
    assert pools[2:] == [3, 3]
