"""Train and measure a detector on the encoder of one run, over several GPUs where they are granted.

Reads:  data/<detection>/manifest.json, results/<study>/pretrain/<run>-<seed>/manifest.json
Writes: results/<study>/detect/<run>-<seed>/{manifest.json, files/}: log.jsonl, per_class.json, detections.png
"""

import sys

from pipeline.engine.launch import maybe_launch
from stages import stage


def main() -> None:
    maybe_launch(sys.argv)
    with stage("detect", __doc__) as cell:
        from pipeline.tasks.detect import evaluate

        if found := evaluate(cell):
            cell.publish(**found)


if __name__ == "__main__":
    main()
