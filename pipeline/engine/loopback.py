"""torchrun for one machine, its rendezvous bound to the loopback interface.

`torchrun --standalone` listens on all interfaces: whoever reaches the machine could join, or hand the processes values
of their own. Here the socket is bound before PyTorch gets it, and gloo and NCCL are told the same interface.

    python -m pipeline.engine.loopback --nproc-per-node=2 -m -- stages.pretrain ...
"""

import os
import socket
import sys
import uuid
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousInfo, RendezvousParameters, rendezvous_handler_registry
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous
from torch.distributed.run import main

HOST, TIMEOUT = "127.0.0.1", 900


class Loopback(StaticTCPRendezvous):
    """The rendezvous of one agent, which hosts the store that its workers use too."""

    def __init__(self, run_id: str) -> None:
        super().__init__(HOST, 0, rank=0, world_size=1, run_id=run_id, timeout=TIMEOUT)

    def get_backend(self) -> str:
        return "loopback"

    def next_rendezvous(self) -> RendezvousInfo:
        if self._store is None:
            with socket.create_server((HOST, 0), backlog=2048) as server:
                self.master_port = server.getsockname()[1]
                self._store = TCPStore(
                    HOST,
                    self.master_port,
                    self.world_size,
                    is_master=True,
                    timeout=timedelta(seconds=TIMEOUT),
                    multi_tenant=True,
                    master_listen_fd=server.detach(),
                )
        place = RendezvousStoreInfo(HOST, self.master_port)
        return RendezvousInfo(PrefixStore(self.run_id, self._store), 0, 1, place)


def create(parameters: RendezvousParameters) -> Loopback:
    return Loopback(parameters.run_id)


if __name__ == "__main__":
    rendezvous_handler_registry.register("loopback", create)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")
    backend = ["--rdzv-backend=loopback", f"--rdzv-endpoint={HOST}:0", f"--rdzv-id={uuid.uuid4()}"]
    main([*backend, *sys.argv[1:]])
