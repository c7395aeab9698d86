"""The script itself, by the names that it goes by.

It is ``__main__`` where it was started, and ``__mp_main__`` in processes that multiprocessing
starts afresh (``spawn`` and ``forkserver``), which import it once more. One rule: what is
defined in it is the same under both names. This room knows modules and nothing else.
"""

from __future__ import annotations

import sys

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
        import cloudpickle  # slow, and seldom needed: this room runs in the child

        cloudpickle.register_pickle_by_value(again)
