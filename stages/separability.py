"""Measure how well an encoder's features of two blended images come apart, on one run.

Reads:  data/<images>/manifest.json, results/<study>/pretrain/<run>-<seed>/manifest.json
Writes: results/<study>/separability/<run>-<seed>/{manifest.json, files/}: by_share.json, separability.png
"""

from stages import stage


def main() -> None:
    with stage("separability", __doc__) as cell:
        from pipeline.tasks.separability import evaluate

        cell.publish(**evaluate(cell))


if __name__ == "__main__":
    main()
