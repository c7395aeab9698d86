"""Import what is slow and not always needed, the moment it is.

One rule: Ctrl-C must not land inside of an import, where the interpreter may
swallow it (a callback of its import locks cannot raise) or leave a module half
made. Signals reach the main thread only, so another one imports.
"""

import importlib
import sys
import threading
from typing import Any


def imported(name: str) -> Any:
    """Import a module in a thread of its own and return it; blocks, but for Ctrl-C.

    Parameters
    ----------
    name
        Its full name.

    Returns
    -------
    module
        The module.

    Raises
    ------
    ImportError
        If there is none.
    """
    if name not in sys.modules:
        thread = threading.Thread(target=_try, args=(name,), name=f"import {name}", daemon=True)
        thread.start()
        thread.join()
    return importlib.import_module(name)


def _try(name: str) -> None:
    try:
        importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - the caller's own import raises it again, where it belongs
        return
