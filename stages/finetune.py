"""Fine-tune the encoder of one run with a classifier, over several GPUs where they are granted.

Reads:  data/<images>/manifest.json, results/<study>/pretrain/<run>-<seed>/manifest.json
Writes: results/<study>/finetune/<run>-<seed>/{manifest.json, files/}: log.jsonl
"""

import sys

from pipeline.engine.launch import maybe_launch
from stages import stage


def main() -> None:
    maybe_launch(sys.argv)
    with stage("finetune", __doc__) as cell:
        from pipeline.tasks.finetune import evaluate

        if found := evaluate(cell):
            cell.publish(**found)


if __name__ == "__main__":
    main()
