"""Let the garbage collector wait while millions of objects are made, none of which is garbage.

One rule: as short as can be, and always ended. The collector would look at all of them
again and again, which takes several times as long as to make them. (Mercurial does the
same where it reads many objects at once.) This room knows nothing of ours.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Let it wait, in all threads; nested or at the same time elsewhere, whoever began ends it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
