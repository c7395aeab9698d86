"""The script itself, by the names that it goes by.

It is ``__main__`` where it was started, and ``__mp_main__`` in processes that multiprocessing
starts afresh (``spawn`` and ``forkserver``), which import it once more. One rule: what is
defined in it is the same under both names. This room knows modules and nothing else.
"""

from __future__ import annotations

import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    from typing import Any

ORIGINAL = "__main__"
AGAIN = "__mp_main__"
NAMES = frozenset({ORIGINAL, AGAIN})


def known(module: object) -> object:
    """Return the name of a module by which its contents are known in every process."""
    return ORIGINAL if module == AGAIN else module


def names() -> dict[str, Any]:
    """Return what the names of the running script stand for.

    ``python -m cProfile`` and ``python -m trace`` may be ``__main__`` themselves, and run the script in names that no
    module has. So the main thread is looked at first: what it runs is the script.
    """
    main = sys.modules[ORIGINAL]
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001
    while frame is not None and main.__name__ != AGAIN:  # else multiprocessing put the script there
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") in NAMES:
            return frame.f_globals
        frame = frame.f_back
    return vars(main)


def let_travel() -> None:
    """Have cloudpickle take the script by value under its other name, too; it looks for ``__main__`` only."""
    again = sys.modules.get(AGAIN)
    if getattr(again, "__name__", None) == AGAIN:  # else that is another name of __main__ here
        import cloudpickle  # slow, and seldom needed: this room runs in the child

        cloudpickle.register_pickle_by_value(again)
