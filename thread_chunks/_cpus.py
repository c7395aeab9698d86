"""How many processors this process may really use.

One rule: the smallest of all limits counts: the machine, the affinity mask that a
batch system or ``taskset`` sets, and the quota of each control group around us that a
container sets. Files of the system are only read, and whatever cannot be read is no
limit. The mask may change at any time; quotas are those of the start. This room knows
nothing of ours.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

_ROOT = "/sys/fs/cgroup"


def usable() -> int:
    """Count the processors that this process may use; opens no files.

    Returns
    -------
    int
        At least 1.
    """
    has_mask = hasattr(os, "sched_getaffinity")
    allowed = len(os.sched_getaffinity(0)) if has_mask else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _QUOTAS)]))


def quotas(root: str, groups: str) -> Iterator[float]:
    """Give what each control group around this process allows, in processors.

    Parameters
    ----------
    root
        Where control groups are mounted.
    groups
        The file that says in which ones this process is.

    Yields
    ------
    float
        One number for each group with a limit.
    """
    with suppress(OSError):
        for line in _text(groups).splitlines():
            _, controllers, place = line.split(":", 2)
            if not controllers:
                yield from _each(root, place, _version_2)
            elif "cpu" in controllers.split(","):
                for name in {controllers, "cpu"}:
                    yield from _each(os.path.join(root, name), place, _version_1)


def _each(root: str, place: str, quota: Callable[[str], float]) -> Iterator[float]:
    """Look in a group and in all around it; in a container only the root may be there to be seen."""
    parts = [part for part in place.split("/") if part]
    for depth in range(len(parts), -1, -1):
        with suppress(OSError, ValueError, ZeroDivisionError):
            yield quota(os.path.join(root, *parts[:depth]))


def _version_2(folder: str) -> float:
    quota, period = _text(os.path.join(folder, "cpu.max")).split()
    return int(quota) / int(period)  # "max" is no number, and no limit


def _version_1(folder: str) -> float:
    quota = int(_text(os.path.join(folder, "cpu.cfs_quota_us")))
    if quota <= 0:
        msg = "no limit"
        raise ValueError(msg)
    return quota / int(_text(os.path.join(folder, "cpu.cfs_period_us")))


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


# Read once, with the package: Ctrl-C in the middle of a run must find no file half opened.
_QUOTAS = tuple(quotas(_ROOT, "/proc/self/cgroup"))
