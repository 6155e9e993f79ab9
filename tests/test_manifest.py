"""Manifests: what is published can be trusted, and an interruption at any moment leaves no manifest that lies."""

import errno
import hashlib
import json
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline import manifest
from pipeline.manifest import ManifestError

THERE = {"manifest.json", "files", manifest.VERIFIED}
TOLD = {"stage": "knn", "records": [{"metric": "top1", "value": 61.2}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "knn"


def make_files(tmp_path: Path, content: str = "first") -> Path:
    files = tmp_path / "work" / "files"
    (files / "deep").mkdir(parents=True)
    (files / "a.txt").write_text(content)
    (files / "deep" / "b.txt").write_text(f"{content} deep")
    return files


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_what_is_published_is_read_and_verified(tmp_path, folder):
    files = make_files(tmp_path)
    returned = manifest.publish(folder, files, TOLD)
    found = manifest.verify(folder / "manifest.json")
    assert found == manifest.read(folder / "manifest.json") == returned
    assert found["artefacts"] == {
        "files/a.txt": {"sha256": sha("first"), "bytes": 5},
        "files/deep/b.txt": {"sha256": sha("first deep"), "bytes": 10},
    }
    assert {key: found[key] for key in TOLD} == TOLD and found["format"] == manifest.FORMAT
    assert not files.exists(), "files are moved, not copied"
    assert {path.name for path in folder.iterdir()} == THERE, "nothing is left lying about"


def test_the_digest_is_that_of_the_contents_alone(tmp_path, folder):
    first = manifest.publish(folder, make_files(tmp_path), TOLD)["digest"]
    again = manifest.publish(folder, make_files(tmp_path), {"stage": "knn", "when": "later"})["digest"]
    other = manifest.publish(folder, make_files(tmp_path, "other"), TOLD)["digest"]
    assert first == again != other


def test_nothing_of_what_was_there_before_stays(tmp_path, folder):
    files = make_files(tmp_path)
    (files / "old.txt").write_text("old")
    manifest.publish(folder, files, TOLD)
    (folder / ".files.abc.tmp").mkdir()  # of a publication that was cut off
    (folder / ".files.abc.tmp" / "torn.txt").write_text("torn")
    manifest.publish(folder, make_files(tmp_path, "new"), TOLD)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*.txt")) == ["files/a.txt", "files/deep/b.txt"]
    assert manifest.verify(folder / "manifest.json")["artefacts"]["files/a.txt"]["sha256"] == sha("new")


def test_changed_and_missing_files_are_named(tmp_path, folder):
    manifest.publish(folder, make_files(tmp_path), TOLD)
    path = folder / "manifest.json"
    (folder / "files/deep/b.txt").write_text("first Deep")
    told = rf"deep/b.txt has sha256 {sha('first Deep')[:12]}….*{sha('first deep')[:12]}…: it was changed"
    with pytest.raises(ManifestError, match=told):
        manifest.verify(path)
    (folder / "files/deep/b.txt").write_text("first dee")
    with pytest.raises(ManifestError, match=r"deep/b.txt has 9 bytes; .* says 10: it was cut off"):
        manifest.verify(path)
    (folder / "files/deep/b.txt").unlink()
    with pytest.raises(ManifestError, match=r"deep/b.txt is missing though .*dvc pull"):
        manifest.verify(path)
    manifest.read(path)  # reading alone stays cheap: no file is opened


def test_a_changed_digest_is_found(tmp_path, folder):
    manifest.publish(folder, make_files(tmp_path), TOLD)
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "0" * 64}))
    with pytest.raises(ManifestError, match="not what was written, by its seal"):
        manifest.read(path)
    resealed = {key: value for key, value in json.loads(path.read_text()).items() if key != "seal"}
    path.write_text(json.dumps(resealed))
    with pytest.raises(ManifestError, match="digest that is not that of its artefacts"):
        manifest.verify(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "is missing; the stage that makes it has not been run"),
        ('{"format": 1, "dig', "is not JSON .*run its stage again"),
        ("", "is not JSON"),
        ("[]", "has format list; expected 1"),
        ("{}", "has format None; expected 1"),
        ('{"format": 2}', "has format 2; expected 1"),
        ('{"format": 1, "artefacts": {}}', "lacks digest; delete its folder"),
    ],
)
def test_what_is_no_manifest_is_told(tmp_path, text, told):
    path = tmp_path / "manifest.json"
    if text is not None:
        path.write_text(text)
    for look in (manifest.read, manifest.verify):
        with pytest.raises(ManifestError, match=f"{re.escape(str(path))} {told}"):
            look(path)


def test_long_lists_do_not_go_into_a_manifest(tmp_path, folder):
    """Above one megabyte Snakemake would compare times instead of contents."""
    manifest.publish(folder, make_files(tmp_path), TOLD)
    files = make_files(tmp_path, "second")
    with pytest.raises(ManifestError, match=r"has 1,\d{3},\d{3} bytes; expected fewer than 1,000,000: write"):
        manifest.publish(folder, files, {"list": ["x" * 97] * 10_000})
    assert manifest.verify(folder / "manifest.json")["artefacts"]["files/a.txt"]["sha256"] == sha("first")
    assert (files / "a.txt").read_text() == "second", "what was made is not lost"


def test_the_limit_counts_bytes(tmp_path, folder):
    with pytest.raises(ManifestError, match="write long lists"):
        manifest.publish(folder, make_files(tmp_path), {"list": "é" * 400_000})


def test_a_number_that_is_not_finite_is_told_before_anything_moves(tmp_path, folder):
    files = make_files(tmp_path)
    with pytest.raises(ManifestError, match=r"not finite under \['records'\]"):
        manifest.publish(folder, files, {"stage": "knn", "records": [{"value": float("nan")}], "cost": {"seconds": 1}})
    assert files.is_dir() and not (folder / "manifest.json").exists()


class Killed(BaseException):
    """Like a signal: no code of the project catches it."""


def interrupted_at(step: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Have the process die before the n-th call that changes the file system."""
    calls = {"made": 0}

    def watch(owner, name):
        real = getattr(owner, name)

        def watched(*arguments, **options):
            calls["made"] += 1
            if calls["made"] == step:
                raise Killed(f"{name} {arguments}")
            return real(*arguments, **options) if name != "fsync" else None

        monkeypatch.setattr(owner, name, watched)

    for owner, name in [(os, "fsync"), (os, "unlink"), (os, "rmdir"), (shutil, "rmtree")]:
        watch(owner, name)
    for name in ("unlink", "rename", "replace", "write_bytes"):
        watch(Path, name)
    return calls


@pytest.mark.parametrize("step", range(1, 60))
def test_killed_at_any_step_a_result_is_published_or_not_begun(tmp_path, folder, step, monkeypatch):
    manifest.publish(folder, make_files(tmp_path), TOLD)
    shutil.rmtree(tmp_path / "work")
    files = make_files(tmp_path, "second")
    with monkeypatch.context() as patch:
        calls = interrupted_at(step, patch)
        try:
            manifest.publish(folder, files, TOLD)
        except Killed:
            pass
        else:
            assert calls["made"] < step and step > 30, "publishing no longer goes through what this test watches"
    path = folder / "manifest.json"
    if path.exists():
        assert manifest.verify(path)["artefacts"]["files/a.txt"]["sha256"] in (sha("first"), sha("second"))
    if not manifest.finish(folder, files.parent):  # not begun: all that was made is still there
        assert (files / "a.txt").read_text() == "second" and (files / "deep/b.txt").exists()
        assert manifest.verify(path)["artefacts"]["files/a.txt"]["sha256"] == sha("first")
        manifest.publish(folder, files, TOLD)
    assert manifest.verify(path)["artefacts"]["files/a.txt"]["sha256"] == sha("second")
    assert {path.name for path in folder.iterdir()} == THERE
    assert manifest.finish(folder, files.parent), "and once more changes nothing"


def test_a_manifest_that_a_workflow_tool_removed_comes_back(tmp_path, folder):
    whole = manifest.publish(folder, make_files(tmp_path), {**TOLD, "key": "abc"})
    path, text = folder / "manifest.json", (folder / "manifest.json").read_text()
    for spoil in (
        path.unlink,
        lambda: path.write_text(text[:-9]),
        lambda: path.write_text(text.replace("61.2", "71.2")),
    ):
        spoil()
        assert manifest.restore(folder, "abc") and path.read_text() == text
    path.unlink()
    assert not manifest.restore(folder, "of other settings") and not path.exists()
    (folder / "files/a.txt").write_text("fIrst")
    assert not manifest.restore(folder, "abc"), "files that were changed are no result"
    assert whole["key"] == "abc"


def test_a_result_that_was_replaced_meanwhile_is_not_believed(tmp_path, folder):
    """Killed before its work was cleaned away, and then other settings were published in its place."""
    manifest.publish(folder, make_files(tmp_path), TOLD)
    manifest.publish(folder, make_files(tmp_path / "elsewhere", "other"), TOLD)
    assert not manifest.finish(folder, tmp_path / "work")
    assert manifest.verify(folder / "manifest.json")["artefacts"]["files/a.txt"]["sha256"] == sha("other")


def test_what_was_verified_is_read_again_when_it_moved_and_weights_always(tmp_path, folder, monkeypatch):
    files = make_files(tmp_path)
    (files / "encoder.safetensors").write_text("weights")
    manifest.publish(folder, files, TOLD)
    looked_at, real = [], manifest.sha256
    monkeypatch.setattr(manifest, "sha256", lambda path: (looked_at.append(path.name), real(path))[1])

    def looked(**options):
        looked_at.clear()
        manifest.verify(folder / "manifest.json", **options)
        return set(looked_at)

    assert looked() == {"encoder.safetensors"} and looked(weights=False) == set()
    os.utime(folder / "files/a.txt", (0, 0))  # as a checkout does
    assert looked(weights=False) == {"a.txt"} and looked(weights=False) == set()
    (folder / manifest.VERIFIED).write_text("{")
    assert looked() == {"a.txt", "b.txt", "encoder.safetensors"} and looked(weights=False) == set()
    stat = (folder / "files/a.txt").stat()
    (folder / "files/a.txt").write_text("fIrst")
    os.utime(folder / "files/a.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ManifestError, match="it was changed"):
        looked()


@pytest.fixture
def full_disk(monkeypatch):
    """A file system without room: names can change, no content can be written."""

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill():
        monkeypatch.setattr(os, "fsync", refuse)

    return fill


def test_a_full_disk_leaves_the_old_file(tmp_path, full_disk):
    path = tmp_path / "last.json"
    manifest.write_atomic(path, b"old")
    full_disk()
    with pytest.raises(OSError, match="No space left"):
        manifest.write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["last.json"]


def test_a_full_disk_leaves_the_old_cell_and_the_new_files(tmp_path, folder, full_disk):
    manifest.publish(folder, make_files(tmp_path), TOLD)
    files = make_files(tmp_path, "second")
    full_disk()
    with pytest.raises(OSError, match="No space left"):
        manifest.publish(folder, files, TOLD)
    assert manifest.verify(folder / "manifest.json")["artefacts"]["files/a.txt"]["sha256"] == sha("first")
    assert (files / "a.txt").read_text() == "second"


def test_files_may_come_from_another_file_system(tmp_path, folder, monkeypatch):
    """A cluster's fast scratch: there renaming is impossible, and what is copied is brought to the disk as well."""
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no second file system to write to")
    scratch = Path("/dev/shm") / f"unmask-test-{os.getpid()}"
    synced, real = [], manifest.fsync
    monkeypatch.setattr(manifest, "fsync", lambda path: (synced.append((path.name, path.parts[1])), real(path)))
    try:
        manifest.publish(folder, make_files(scratch), TOLD)
    finally:
        shutil.rmtree(scratch)
    assert manifest.verify(folder / "manifest.json")["artefacts"].keys() == {"files/a.txt", "files/deep/b.txt"}
    assert {"a.txt", "b.txt", "deep"} <= {name for name, top in synced if top == tmp_path.parts[1]}


def test_written_atomically_means_renamed_after_reaching_the_disk(tmp_path, monkeypatch):
    order, real_fsync, real_replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), real_fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("rename"), real_replace(self, to)))
    manifest.write_atomic(tmp_path / "x", b"content")
    assert order == ["fsync", "rename", "fsync"], "content, name, and the folder that holds the name"


def test_provenance_names_code_packages_and_times(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent.parent)
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    found = manifest.provenance(started)
    lock = Path("envs/requirements.lock").read_bytes()
    assert found["lock_sha256"] == hashlib.sha256(lock).hexdigest()
    assert found["started"] == "2026-01-02T03:04:05+00:00" < found["finished"]
    assert found["packages"]["torch"] and found["python"] and found["host"]
    json.dumps(found, allow_nan=False)


def test_provenance_without_git_names_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (os.environ["PATH"], str(tmp_path)):  # outside a repository, and without the program
        monkeypatch.setenv("PATH", path)
        found = manifest.provenance(datetime.now(UTC))
        assert (found["commit"], found["dirty"], found["lock_sha256"]) == (None, None, None)


def test_provenance_tells_whether_tracked_files_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = "git init -q . && echo 1 > a && git add a && git -c user.name=t -c user.email=t@t commit -qm a"
    assert os.system(run) == 0
    (tmp_path / "untracked").write_text("no matter")
    clean = manifest.provenance(datetime.now(UTC))
    (tmp_path / "a").write_text("2")
    dirty = manifest.provenance(datetime.now(UTC))
    assert re.fullmatch("[0-9a-f]{40}", clean["commit"]) and clean["commit"] == dirty["commit"]
    assert (clean["dirty"], dirty["dirty"]) == (False, True)


def test_a_result_without_files_has_its_folder_too(tmp_path):
    (tmp_path / "work/files").mkdir(parents=True)
    manifest.publish(tmp_path / "cell", tmp_path / "work/files", {"stage": "knn"})
    assert (tmp_path / "cell/files").is_dir()  # DVC tracks it
