"""Small sets in memory, decoded once a process: each phase, hook and measurement opens its set anew."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from pipeline.data.packed import Packed

MOST = 4  # sets that are kept, those that were asked for last

_KEPT: OrderedDict[Hashable, Any] = OrderedDict()


def held(packed: Packed, form: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` gives, or gave before for the same split in the same form, if its files have not changed since.

    It is shared, so nobody may write to it.

    Args:
        form: all that `make` depends on beside the split's files.
    """
    index = packed.folder / f"{packed.split}.index.npz"
    about = index.stat()
    key = (index.resolve(), about.st_mtime_ns, about.st_size, about.st_ino, form)
    if key not in _KEPT:
        _KEPT[key] = make()
    _KEPT.move_to_end(key)
    while len(_KEPT) > MOST:
        _KEPT.popitem(last=False)
    return _KEPT[key]
