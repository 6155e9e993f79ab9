"""Train one run of the study, from its recipe, at one seed.

Reads:  data/<images>/manifest.json, and the teacher's results/<study>/pretrain/<teacher>-<seed>/manifest.json
Writes: results/<study>/pretrain/<run>-<seed>/{manifest.json, files/}: encoder.safetensors (timm's keys),
        method.safetensors (everything the method holds), log.jsonl, pictures.png, snapshot-<step>.png;
        phases.json, the results of a method's phases where it has several

Interrupted, it resumes from its last checkpoint when the same command is run again.
"""

import sys

from pipeline.engine.launch import maybe_launch
from stages import loading, stage


def main() -> None:
    maybe_launch(sys.argv)  # over several GPUs or nodes, where they were granted
    with stage("pretrain", __doc__) as cell:
        with loading():
            from pipeline.engine.pretrain import pretrain
            from pipeline.engine.threads import set_threads

        set_threads(cell.settings["threads"])
        pretrain(cell)


if __name__ == "__main__":
    main()
