"""Numbers do not depend on what the environment says of threads."""

import subprocess
import sys

import pytest

from pipeline.engine.threads import set_threads
from tests.real import ROOT, environment

STEP = """
import hashlib, sys
import torch
from pathlib import Path
from pipeline.engine.threads import set_threads
set_threads(int(sys.argv[1]))
import cv2
import numpy as np
import yaml
from threadpoolctl import threadpool_info
print(torch.get_num_threads(), torch.get_num_interop_threads(), cv2.getNumThreads(),
      {pool["num_threads"] for pool in threadpool_info()})
if sys.argv[2] == "pools":
    sys.exit()
from pipeline.nn.encoders import build_encoder
from pipeline.tasks import detect
from pipeline.tasks.dense.sets import Scene, boxes_of
from pipeline.tasks.finetune import Classifier

def settings(task):
    return yaml.safe_load(Path(f"config/tasks/{task}.yaml").read_text())["demo"]

def step(model, batch):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):
        model.parse_losses(model(**model.data_preprocessor(batch, training=True), mode="loss"))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()

torch.manual_seed(0)
classifier = Classifier(build_encoder("vit_micro", 16), 10, {}, 0.1)
print(step(classifier, {"images": torch.randn(64, 3, 16, 16), "labels": torch.arange(64) % 10}))
random = np.random.default_rng(0)
scenes = []
for number in range(4):
    masks = np.zeros((2, 48, 48), np.uint8)
    masks[0, 4:20, 6:24] = masks[1, 22:44, 20:40] = 1
    image = random.integers(0, 256, (48, 48, 3), np.uint8)
    found = {"boxes": boxes_of(masks), "labels": np.arange(2), "masks": masks}
    scenes.append(Scene(image=image, image_id=number, size=(48, 48), **found))
print(step(detect.build(settings("detect"), build_encoder("vit_micro", 16), 4), detect.pack(scenes)))
"""


def told(num, in_environment, part="steps"):
    """The threads of all pools, and what two steps of fine-tuning and of detection end with."""
    more = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(in_environment))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", STEP, str(num), part], cwd=ROOT,
                          env=environment(**more), capture_output=True, text=True, timeout=120, check=True)  # fmt: skip
    return done.stdout.splitlines()


def test_steps_are_bit_equal_whatever_the_environment_says():
    one, two = told(1, in_environment=1), told(1, in_environment=2)
    assert one == two
    assert one[0] == "1 1 1 {1}" and len(one) == 3


def test_a_stage_gets_the_threads_it_asked_for():
    assert told(2, in_environment=1, part="pools") == ["2 2 2 {2}"]


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="num is 0; expected 1 or more"):
        set_threads(0)
