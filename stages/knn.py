"""Classify validation images by their nearest training images, on frozen features of one run.

Reads:  data/<images>/manifest.json, results/<study>/pretrain/<run>-<seed>/manifest.json
Writes: results/<study>/knn/<run>-<seed>/{manifest.json, files/}
"""

from stages import stage


def main() -> None:
    with stage("knn", __doc__) as cell:
        from pipeline.tasks.knn import evaluate

        cell.publish(**evaluate(cell))


if __name__ == "__main__":
    main()
