"""What a table of speeds needs beside it: the machine, and who ran in which version."""

import contextlib
import importlib.metadata
import os
import platform

from contender import WORKERS

DISTRIBUTIONS = (
    "thread-chunks",
    "joblib",
    "mpire",
    "loky",
    "dask",
    "distributed",
    "ray",
    "numpy",
    "cloudpickle",
    "pykka",
)


def facts() -> str:
    """Return one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{WORKERS} cores ({platform.machine()}), {memory:.0f} GiB, {platform.system()}, {python}"
    return f"{machine}; {', '.join(versions())}."


def versions() -> list[str]:
    """Return everybody's version."""
    found = []
    for name in DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found
