"""Train linear classifiers on the frozen features of one run, over several GPUs where they are granted.

Reads:  data/<images>/manifest.json, results/<study>/pretrain/<run>-<seed>/manifest.json
Writes: results/<study>/linear_probe/<run>-<seed>/{manifest.json, files/}: log.jsonl, rates.json
"""

import sys

from pipeline.engine.launch import maybe_launch
from stages import stage


def main() -> None:
    maybe_launch(sys.argv)
    with stage("linear_probe", __doc__) as cell:
        from pipeline.tasks.linear_probe import evaluate

        if found := evaluate(cell):
            cell.publish(**found)


if __name__ == "__main__":
    main()
