"""Power cuts of a real file system: what was reported as saved is on the disk, and not only in a cache."""

import os
import signal
from pathlib import Path

import pytest
from conftest import Programs, members, wait_until
from ext4 import Image
from harness import Case

SWEEP = """
    import signal
    import disk

    at = int(sys.argv[2])

    def stop(name):
        found.append(name)
        if len(found) == at:
            note("cut", at)
            os.kill(os.getpid(), signal.SIGSTOP)

    found = []
    if at:
        disk.Disk(before=stop).install()
    outputs = sweep(count=4, path=sys.argv[3])
    assert outputs == [value(x) for x in range(4)]
"""


@pytest.mark.root
def test_power_cut_at_any_step_loses_no_reported_result(programs: Programs, tmp_path: Path) -> None:
    """The power fails before each step that changes the file: all that was reported is found, and the run goes on."""
    for at in range(1, 100):
        inner = programs.within(f"step {at}")
        image = Image(inner.folder)
        try:
            if not _cut(inner, image, at):
                break
        finally:
            inner.close()
            image.close()
    assert at > 10


def _cut(programs: Programs, image: Image, at: int) -> bool:
    """Cut the power at one step, and check what is left; tell whether the run came so far."""
    case = Case(programs, SWEEP, count=4, path=str(image.mount() / "c.pkl"))
    process = case.start(at, case.path)
    wait_until(lambda: process.poll() is not None or _is_stopped(process.pid), what="the cut")
    if process.poll() is not None:
        return False
    left = image.cut()
    for pid in members(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    case.path = str(left / "c.pkl")
    case.verify()
    case.finish(0, case.path)
    return True


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
