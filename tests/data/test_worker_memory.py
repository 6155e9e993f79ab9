"""What a worker of the loader holds of a large index: processes of their own, which nothing else has filled."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pipeline.data.packed import PackWriter
from tests.real import ROOT, environment

NUM, SHARDS = 1_281_167, 140  # ImageNet's, in shards of a gibibyte
WORKER = """
import sys
from torch.utils.data import DataLoader
from pipeline.data.images import Images, as_it_is
from pipeline.data.transforms import RandomCrop

class Weighed(Images):
    def __getitems__(self, samples):
        super().__getitems__(samples)
        return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

images = Weighed(sys.argv[1], "train", RandomCrop(16, (0.2, 1.0), (0.75, 1.33), flip=True), seed=0, in_memory=0)
batches = [[(0, place * 100_003 % len(images)) for place in range(12 * batch, 12 * batch + 12)] for batch in range(80)]
print([kib for kib in DataLoader(images, batch_sampler=batches, num_workers=1, collate_fn=as_it_is)][-1])
"""


@pytest.fixture
def folder(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    with PackWriter(tmp_path / "small", "train", 2**20) as pack:
        for number in range(12):
            pack.add(f"{number}.png", buffer.getvalue(), label=number % 2, height=16, width=16)
    (tmp_path / "small/classes.json").write_text(json.dumps(["even", "odd"]))
    shutil.copytree(tmp_path / "small", tmp_path / "large")
    with np.load(tmp_path / "small/train.index.npz") as index:
        columns = {name: np.resize(values, NUM) for name, values in index.items() if name != "keys"}
    columns["shard"] = (np.arange(NUM) * SHARDS // NUM).astype(np.int32)
    for shard in range(1, SHARDS):
        shutil.copy(tmp_path / "large/train-00000.bin", tmp_path / f"large/train-{shard:05d}.bin")
    keys = "\n".join(f"n{place % 1000:08d}/n{place % 1000:08d}_{place}.JPEG" for place in range(NUM))
    np.savez(tmp_path / "large/train.index.npz", keys=np.frombuffer(keys.encode(), np.uint8), **columns)
    return tmp_path


def test_a_worker_holds_at_most_50_mb_of_the_index_of_imagenet(folder):
    """Above one of a set of twelve images; all but 5 MB of it are shared with the others."""
    small, large = (
        int(subprocess.run([sys.executable, "-c", WORKER, folder / name], env=environment(), cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout)
        for name in ("small", "large")
    )  # fmt: skip
    assert 0 < (large - small) * 1024 < 50e6, f"{large - small:,} KiB"
