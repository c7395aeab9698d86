"""A worker that holds something expensive in its process: a model, a database connection.

It is made once in each child process, when the first call needs it, and not once for each call.
It never travels: what travels is the function that makes it. When a call takes its process down,
the next process makes its own.

The function gets it as its first argument, so it stays a plain function that a test can call.
"""

import functools
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from thread_chunks import ProcessWorker, chunk


class Holding:
    """A function whose first argument is held by the process that calls it.

    It is pickled before it was ever called, so it arrives in a process empty-handed.
    """

    def __init__(self, func: Callable[..., Any], make: Callable[[], Any]) -> None:
        self.func = func
        self.make = make
        self.held: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make it if this process has none yet, and call the function."""
        if not self.held:
            self.held.append(self.make())
        return self.func(self.held[0], *args, **kwargs)


class ResourceWorker(ProcessWorker):
    """Run calls in a child process, with what the child holds as their first argument.

    Parameters
    ----------
    func : callable, optional
        The function.
    make : callable
        Called without arguments in the child; returns what the child is to hold.
    """

    def __init__(
        self,
        func: Callable[..., Any] | None = None,
        *,
        make: Callable[[], Any],
    ) -> None:
        super().__init__(func)
        self.make = make
        self.holding: Holding | None = None

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Send the same object each time: the child keeps what it was sent last."""
        if self.holding is None or self.holding.func is not func:
            self.holding = Holding(func, self.make)
        return super().execute(self.holding, *args, **kwargs)


def open_catalogue(file: str) -> sqlite3.Connection:
    """Connect to the database; a connection cannot be pickled, and must not be shared by processes."""
    print(f"process {os.getpid()} opens {os.path.basename(file)}", flush=True)
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True)


def brightest(catalogue: sqlite3.Connection, constellation: str) -> str:
    """Look up one star; the pause stands for the computing."""
    time.sleep(0.1)
    query = "select name from stars where constellation = ? order by magnitude limit 1"
    (name,) = catalogue.execute(query, [constellation]).fetchone()
    return str(name)


STARS = [
    ("Sirius", "Canis Major", -1.46),
    ("Adhara", "Canis Major", 1.50),
    ("Vega", "Lyra", 0.03),
    ("Rigel", "Orion", 0.13),
    ("Betelgeuse", "Orion", 0.50),
    ("Arcturus", "Bootes", -0.05),
]

with sqlite3.connect("stars.db") as database:
    database.execute("drop table if exists stars")
    database.execute("create table stars (name text, constellation text, magnitude real)")
    database.executemany("insert into stars values (?, ?, ?)", STARS)
database.close()

worker = functools.partial(
    ResourceWorker,
    make=functools.partial(open_catalogue, os.path.abspath("stars.db")),
)
constellations = ["Orion", "Lyra", "Bootes", "Canis Major"] * 2
print(chunk(brightest, [[name] for name in constellations], worker=worker, chunk_size=2))
