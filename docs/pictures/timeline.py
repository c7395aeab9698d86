"""Measure the run that one of the pictures shows: two workers, killed half-way, and the same call again.

``python docs/pictures/timeline.py`` writes ``timeline.json``. What was saved is told by the checkpoint; what was
running when the script was killed is told by a log that each call writes at its start.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thread_chunks import Checkpoint

SCRIPT = """
import os, random, time
from thread_chunks import chunk

def work(number):
    with open("log", "a") as log:
        log.write(f"{number} {os.getpid()} {time.time()}\\n")
    time.sleep(random.Random(number).uniform(0.1, 0.6))
    return number

chunk(work, [[number] for number in range(16)], path="run.pkl", chunk_size=2, progress_bar=False)
"""
KILLED_AFTER = 1.9  # seconds from the first call on


def main() -> None:
    """Run twice and write down when each call ran, in seconds since the first of its run."""
    with TemporaryDirectory() as folder:
        log = Path(folder, "log")
        runs = [measured(folder, log, is_killed=is_killed) for is_killed in (True, False)]
    text = json.dumps(runs, indent=1)
    (Path(__file__).parent / "timeline.json").write_text(text + "\n", encoding="utf-8")


def measured(folder: str, log: Path, *, is_killed: bool) -> list[dict[str, Any]]:
    """Make the run once, kill it if that is wanted, and return its calls."""
    log.unlink(missing_ok=True)
    script = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=folder)  # noqa: S603 - it is our own
    if is_killed:
        while not log.exists():
            time.sleep(0.01)
        time.sleep(KILLED_AFTER)
        script.kill()
    script.wait()
    end = time.time()
    checkpoint = Checkpoint.load(f"{folder}/run.pkl")
    begun = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    lanes = {process: lane for lane, process in enumerate(dict.fromkeys(process for _, process, _ in begun))}
    first = min(float(start) for *_, start in begun)
    calls = []
    for number, process, start in begun:
        seconds = checkpoint.seconds[int(number)]
        stop = end if seconds is None else float(start) + seconds
        calls.append(
            {
                "index": int(number),
                "worker": lanes[process],
                "start": round(float(start) - first, 3),
                "end": round(stop - first, 3),
                "saved": seconds is not None,
            }
        )
    return calls


if __name__ == "__main__":
    main()
