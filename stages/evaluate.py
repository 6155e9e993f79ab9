"""Measure the encoder of one run on one task of the study, over several GPUs where they are granted.

Reads:  the manifests of the task's data set and of results/<study>/pretrain/<run>-<seed>/
Writes: results/<study>/<task>/<run>-<seed>/{manifest.json, files/}: log.jsonl where something is trained, pictures

Interrupted, a task that trains resumes from its last checkpoint when the same command is run again.
"""

import sys
from importlib import import_module

from pipeline.engine.launch import maybe_launch
from stages import loading, stage


def main() -> None:
    maybe_launch(sys.argv)
    with stage("evaluate", __doc__) as cell:
        with loading():
            from pipeline.engine.threads import set_threads

            task = import_module(f"pipeline.tasks.{cell.settings['task']}")
        set_threads(cell.settings["threads"])
        if found := task.evaluate(cell):  # where several processes share the work, the first one tells
            cell.publish(**found)


if __name__ == "__main__":
    main()
