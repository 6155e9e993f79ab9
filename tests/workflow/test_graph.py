"""The Snakefile and dvc.yaml say one graph: the same nodes, commands, inputs, outputs and numbers."""

from dataclasses import replace

import pytest
import yaml

from tests.workflow.graphs import ROOT, copy_tree, differences, dvc_graph, snakemake_graph, snakemake_jobs

NAMES = ("Snakefile", "dvc.yaml")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def faces(tree):
    return snakemake_graph(tree), dvc_graph(tree)


def test_both_faces_say_the_same_graph(faces):
    told = differences(*faces, NAMES)
    assert not told, "\n".join(["the Snakefile and dvc.yaml differ:", *told])


def test_the_graph_is_what_the_study_implies(faces):
    raw = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    seeds = {run: set(entry.get("seeds", raw["seeds"])) for run, entry in raw["runs"].items()}
    expected = {f"prepare@{name}" for name in raw["data"]} | {"report"}
    expected |= {f"pretrain@{run}-{seed}" for run in seeds for seed in seeds[run]}
    for name, task in raw["tasks"].items():
        expected |= {f"{name}@{run}-{seed}" for run in task["runs"] for seed in seeds[run] & set(task["seeds"])}
    for graph, name in zip(faces, NAMES, strict=True):
        assert set(graph) == expected, f"{name} lacks {expected - set(graph)}, has besides {set(graph) - expected}"


def test_every_task_measures_the_run_and_seed_it_is_named_after(faces):
    for graph in faces:
        for name, node in graph.items():
            stage, _, cell = name.partition("@")
            if stage == "report":
                others = {name for name in graph if name != "report"}
                assert len(node.deps) == len(others), "the report reads every manifest"
                continue
            script = stage if stage in ("prepare", "pretrain") else "evaluate"
            assert node.command.startswith(f"python -m stages.{script} --study config/demo.yaml ")
            assert [out.rsplit("/")[-1] for out in node.outs] == ["manifest.json"]
            assert all(dep.endswith("/manifest.json") for dep in node.deps), "edges are manifests"
            if stage not in ("prepare", "pretrain"):
                assert f"results/demo/pretrain/{cell}/manifest.json" in node.deps
            if stage != "prepare":
                assert node.outs == {f"results/demo/{stage}/{cell}/manifest.json"}
                assert node.settings, "a change of its numbers must run it again"


def test_every_rule_has_a_log_a_benchmark_and_names(tree):
    with snakemake_jobs(tree) as jobs:
        for job in jobs:
            rule = job.rule.name
            assert list(job.log), f"{rule} has no log"
            assert job.benchmark, f"{rule} has no benchmark"
            assert f"> {job.log[0]} 2>&1" in job.shellcmd, f"{rule} does not write its log"
            for kind in ("input", "output"):
                files = getattr(job, kind)
                named = [item for _, item in files.items() for item in ([item] if isinstance(item, str) else item)]
                assert sorted(map(str, named)) == sorted(map(str, files)), f"{rule} has a nameless {kind}"
        places = [str(path) for job in jobs for path in (*job.log, job.benchmark, *job.output)]
        assert len(places) == len(set(places)), "two jobs write one file"


def test_a_difference_is_told_by_name(faces):
    """The comparison itself can fail."""
    graph, _ = faces
    name, node = next((name, node) for name, node in graph.items() if name.startswith("knn@"))
    others = [{key: value for key, value in graph.items() if key != name}]
    others += [graph | {name: replace(node, deps=frozenset(list(node.deps)[1:]))}]
    others += [graph | {name: replace(node, outs=node.outs | {"more"})}]
    others += [graph | {name: replace(node, command="python")}, graph | {name: replace(node, settings={})}]
    words = ("in Snakefile, not in dvc.yaml", "dep ", "out more in dvc.yaml", "command is", "settings is")
    for other, word in zip(others, words, strict=True):
        (told,) = differences(graph, other, NAMES)
        assert told.startswith(f"{name}: ") and word in told
