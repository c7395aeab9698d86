"""How many processors may be used: the smallest of all limits."""

import math
import os
from pathlib import Path

import pytest

from thread_chunks import _cpus

GROUPS_2 = "0::/user/job\n"
GROUPS_1 = "9:name=systemd:/\n4:cpu,cpuacct:/job\n3:memory:/job\n0::/\n"


def written(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (GROUPS_2, {}, []),
        (GROUPS_2, {"user/job/cpu.max": "max 100000"}, []),
        (GROUPS_2, {"user/job/cpu.max": "150000 100000"}, [1.5]),
        (GROUPS_2, {"user/job/cpu.max": "max 100000", "user/cpu.max": "300000 100000"}, [3.0]),
        (GROUPS_2, {"cpu.max": "200000 100000"}, [2.0]),
        (GROUPS_2, {"user/job/cpu.max": "not a number"}, []),
        (GROUPS_2, {"user/job/cpu.max": "1 0"}, []),
        (GROUPS_1, {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, []),
        (GROUPS_1, {"cpu/job/cpu.cfs_quota_us": "50000", "cpu/job/cpu.cfs_period_us": "100000"}, [0.5]),
        (
            GROUPS_1,
            {"cpu,cpuacct/cpu.cfs_quota_us": "400000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            [4.0],
        ),
        ("", {"cpu.max": "200000 100000"}, []),
    ],
)
def test_quotas_are_found_in_every_group_around_the_process(
    tmp_path: Path, groups: str, files: dict[str, str], expected: list[float]
) -> None:
    """The quota of each control group counts, of both versions; what cannot be read is no limit."""
    root = written(tmp_path / "cgroup", files)
    place = tmp_path / "groups"
    place.write_text(groups)
    assert list(_cpus.quotas(root, str(place))) == expected


def test_no_control_groups_are_no_limit(tmp_path: Path) -> None:
    """A system without control groups limits nothing."""
    assert not list(_cpus.quotas(str(tmp_path), str(tmp_path / "missing")))


def test_processors_are_counted_within_the_mask_and_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest limit counts, a part of a processor as one, and never less than one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for limits in ([], [0.2], [1.5], [1000.0], [1000.0, 0.5]):
        monkeypatch.setattr(_cpus, "_QUOTAS", tuple(limits))
        assert _cpus.usable() == min([allowed, *map(math.ceil, limits)])
