"""The script itself, by the names that it goes by.

It is ``__main__`` where it was started, and ``__mp_main__`` in processes that multiprocessing
starts afresh (``spawn`` and ``forkserver``), which import it once more. One rule: what is
defined in it is the same under both names. This room knows modules and nothing else.
"""

import pickle
import sys
from typing import Any

import cloudpickle

ORIGINAL = "__main__"
AGAIN = "__mp_main__"
NAMES = frozenset({ORIGINAL, AGAIN})


def known(module: object) -> object:
    """Return the name of a module by which its contents are known in every process."""
    return ORIGINAL if module == AGAIN else module


def let_travel() -> None:
    """Have cloudpickle take the script by value under its other name, too; it looks for ``__main__`` only."""
    again = sys.modules.get(AGAIN)
    if getattr(again, "__name__", None) == AGAIN:  # else that is another name of __main__ here
        cloudpickle.register_pickle_by_value(again)


def pickled(value: Any) -> bytes:
    """Pickle a value, what is of the script by value; raises whatever its pickling raises."""
    let_travel()
    return bytes(cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL))
