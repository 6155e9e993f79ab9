"""Copies of data on a node's own disk."""

import multiprocessing
import shutil
from collections import namedtuple

import pytest

from pipeline import local, manifest
from pipeline.local import VARIABLE, nearest
from pipeline.manifest import ManifestError
from tests.small import cell, load, publish

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def data(project):
    """The folder of a prepared set."""
    publish(cell(load(), "prepare", "digits"))
    return cell(load(), "knn", "mae", 0).node.inputs["data"]


@pytest.fixture
def scratch(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("node") / "scratch"
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


def test_without_the_variable_data_is_read_where_it_is(data, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert cell(load(), "knn", "mae", 0).data == data


def test_a_cell_reads_a_copy_of_the_same_content(data, scratch):
    found = cell(load(), "knn", "mae", 0).data
    assert found.is_relative_to(scratch)
    assert manifest.verify(found / manifest.NAME) == manifest.read(data / manifest.NAME)
    assert (found / "files/pack.bin").read_bytes() == (data / "files/pack.bin").read_bytes()


def test_a_copy_is_made_once(data, scratch):
    first = (nearest(data) / "files/pack.bin").stat()
    assert (nearest(data) / "files/pack.bin").stat() == first


def _copies(data, barrier, told):
    barrier.wait()
    told.put(str((nearest(data) / "files/pack.bin").stat().st_ino))


def test_processes_that_begin_together_share_one_copy(data, scratch):
    context = multiprocessing.get_context("fork")
    barrier, told = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_copies, args=(data, barrier, told)) for _ in range(3)]
    for process in processes:
        process.start()
    assert len({told.get(timeout=30) for _ in processes}) == 1
    for process in processes:
        process.join()


@pytest.mark.parametrize("harm", [lambda file: file.unlink(), lambda file: file.write_text("cut")])
def test_a_damaged_copy_is_made_again(data, scratch, harm, capsys):
    harm(nearest(data) / "files/pack.bin")
    assert (nearest(data) / "files/pack.bin").read_bytes() == (data / "files/pack.bin").read_bytes()
    assert "it is copied again" in capsys.readouterr().out


def test_a_copy_of_another_manifest_is_made_again(data, scratch):
    before = manifest.read(nearest(data) / manifest.NAME)
    shutil.rmtree(data)
    publish(cell(load(), "prepare", "digits"))  # the same files at another time
    assert manifest.read(nearest(data) / manifest.NAME) == manifest.read(data / manifest.NAME)
    assert manifest.read(data / manifest.NAME)["digest"] == before["digest"]


def test_a_copy_that_was_cut_off_is_none(data, scratch):
    left = scratch / f".{nearest(data).name}.tmp"
    shutil.rmtree(scratch)
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    assert not (nearest(data) / "half").exists()


def test_a_disk_without_room_is_left_alone(data, scratch, monkeypatch, capsys):
    monkeypatch.setattr(local.shutil, "disk_usage", lambda path: Usage(100, 99, 1))
    assert nearest(data) == data
    assert "it is read from where it is" in " ".join(capsys.readouterr().out.split())


def test_a_copy_of_what_was_changed_is_refused(data, scratch):
    (data / "files/pack.bin").write_text("changed")
    with pytest.raises(ManifestError, match=r"pack\.bin"):
        nearest(data)
    assert not [path for path in scratch.iterdir() if path.is_dir() and not path.name.startswith(".")]
