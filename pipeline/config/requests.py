"""What a job asks of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.config.errors import ConfigError, mapping, nearest
from pipeline.config.parse import parse
from pipeline.config.types import Count, Natural


class Request(BaseModel):
    """Nodes, and on each of them GPUs, CPUs and memory; hours until the job is stopped, to be resumed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    nodes: Count = 1
    gpus: Natural = 0
    cpus: Count = 1
    memory_gib: Count = 3
    hours: Count = 1

    @property
    def threads(self) -> int:
        """Threads of one process. Where GPUs compute, its one core feeds them; the others are its loader's."""
        return 1 if self.gpus else self.cpus


def parse_requests(entry: Any, stages: Iterable[str], where: str) -> Mapping[str, Request]:
    """Stage to request, from `{pretrain: {nodes: 2, gpus: 8}}`."""
    requests, stages = {}, list(stages)
    for stage, asked in mapping(entry or {}, where).items():
        if stage not in stages:
            raise ConfigError(f"{where} has {stage!r}; available stages: {stages}{nearest(stage, stages)}")
        requests[stage] = parse(Request, asked, f"{where}.{stage}")
    return MappingProxyType(requests)
