"""Short cells that share a job on a cluster and run in it one after another: groups, in Snakemake's word.

Thousands of k-NN cells would be thousands of jobs, each of which waits in the queue longer than it computes. Snakemake
joins jobs of one group where the profile's `group-components` tells how many, adds up the time they ask for, and runs
them inside the job by steps of their own, each when the one before has ended.
"""

from __future__ import annotations

from typing import Any

from pipeline.graph import STAGES, Node

KIND = "short"  # as `group-components` knows it
HOURS = 4  # that a short cell asks for at most


def batch(node: Node, workflow: Any) -> str | None:
    """The group of a node, None of one that has a job for itself; Snakemake is told that the group is of this kind.

    Those of one group ask alike, for one process, and wait for the same: an encoder or a data set that is not there
    yet stands in the name. So no cell waits for what only another one reads, and none is left out because that failed.

    Args:
        node: of the study.
        workflow: Snakemake's, before it runs jobs.
    """
    asked = node.request
    if node.stage in STAGES or asked.nodes > 1 or asked.gpus > 1 or asked.hours > HOURS:
        return None
    asks = f"{asked.gpus}gpu", f"{asked.cpus}cpu", f"{asked.memory_gib}gib", f"{asked.hours}h"
    waits = [folder.name for folder in node.inputs.values() if not (folder / "manifest.json").is_file()]
    name = "-".join([KIND, *asks, *waits])
    workflow.parent_groupids[name] = KIND  # as Snakemake has it where wildcards make the names
    if workflow.remote_exec:  # inside the job, where it knows nothing of the profiles: one that fails stops no other
        workflow.execution_settings.keep_going = True
    return name
