import subprocess
import sys

HEAVY = ("pandas", "scipy", "sklearn", "matplotlib", "seaborn")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_detection_and_segmentation_import_only_what_they_use() -> None:
    out = run(
        "import sys; import pipeline.tasks.detect, pipeline.tasks.segment\n"
        "print([name for name in " + repr(HEAVY) + " if name in sys.modules])\n"
        "print(sum(name.startswith('mmdet.models.detectors.') for name in sys.modules))\n"
        "from mmdet.models.losses import accuracy\n"  # a function in a file of the same name
        "import mmdet.models.losses.accuracy\n"
        "from mmdet.models.losses import accuracy\n"
        "print(callable(accuracy))\n"
        "from mmdet.models import RetinaNet\n"  # through two star imports
        "print(RetinaNet.__name__)\n"
        "import mmdet.models.losses as losses\n"
        "print([name for name in losses.__all__ if not hasattr(losses, name)], len(losses.__all__) > 20)\n"
        "import timm; print(timm.__version__ > '1', hasattr(timm, 'no_such_name'))\n"
    ).split("\n")
    assert out[0] == "[]"
    assert int(out[1]) < 6
    assert out[2:6] == ["True", "RetinaNet", "[] True", "True False"]
