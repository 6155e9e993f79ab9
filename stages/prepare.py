"""Prepare one data set of a study: check it, reject what cannot be read, pack it for fast random access.

Reads:   the folder that the study names (`data.<name>.root`), or nothing for the embedded sets
Writes:  data/<name>/manifest.json and data/<name>/files/ (packs, classes, annotations, findings)
"""

import time

from pipeline.config import sizes
from pipeline.data.prepare import prepare
from stages import stage


def main() -> None:
    with stage("prepare", __doc__) as cell:
        started = time.monotonic()
        data = prepare(cell.study.data[cell.node.run], cell.work, cell.files)
        sizes.check(cell.study, cell.node.run, data, ("pretrain", *cell.study.tasks), cell.study.runs)
        count = sum(split["count"] for split in data["splits"].values())
        cell.publish(data=data, cost={"seconds": round(time.monotonic() - started, 3), "samples": count})


if __name__ == "__main__":
    main()
