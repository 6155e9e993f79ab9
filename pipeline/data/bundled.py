"""Files inside installed packages: the raw material of the embedded data sets, there without a network."""

from importlib.util import find_spec
from pathlib import Path


def bundled(package: str, path: str) -> Path:
    """The place of a package's file.

    The package is not imported: scikit-learn alone takes five seconds, longer than the rest of the
    preparation.

    Raises:
        FileNotFoundError: the package is not installed or lacks the file.
    """
    spec = find_spec(package)
    file = Path(spec.origin).parent / path if spec is not None and spec.origin is not None else None
    if file is None or not file.is_file():
        raise FileNotFoundError(f"{path} of the package {package} is not there; run `make setup` to install the lock")
    return file
