"""Snakemake's limit on the jobs that it starts each second, lifted.

Under its limit, each look for jobs to start plans another one a second later, and each job that ends begins a chain of
such looks that never ends (https://github.com/snakemake/snakemake/pull/3744): after 200 jobs Snakemake looks through
all that wait 200 times a second, and takes a core from the jobs. Without a limit it looks when a job ends. What it
submits to a cluster is bounded by `jobs` of the profile.
"""

from __future__ import annotations

from typing import Any

DEFAULT = (100, 1)  # jobs, and the seconds in which at most so many start


def lift_limit(workflow: Any) -> None:
    """Lift the limit, unless the user gave another one; of use until Snakemake's scheduler begins, after the graph."""
    settings = workflow.scheduling_settings
    limit = settings and settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == DEFAULT:
        settings.max_jobs_per_timespan = None
