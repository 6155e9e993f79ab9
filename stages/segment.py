"""Train and measure a segmentor on the encoder of one run, over several GPUs where they are granted.

Reads:  data/<segmentation>/manifest.json, results/<study>/pretrain/<run>-<seed>/manifest.json
Writes: results/<study>/segment/<run>-<seed>/{manifest.json, files/}: log.jsonl, per_class.json, segmentations.png
"""

import sys

from pipeline.engine.launch import maybe_launch
from stages import stage


def main() -> None:
    maybe_launch(sys.argv)
    with stage("segment", __doc__) as cell:
        from pipeline.tasks.segment import evaluate

        if found := evaluate(cell):
            cell.publish(**found)


if __name__ == "__main__":
    main()
