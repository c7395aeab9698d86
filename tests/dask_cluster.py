"""A Dask cluster of real processes, for tests that kill them.

The harness owns the processes and nothing else: how calls get there is the test's.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from conftest import members, wait_until


class Cluster:
    """A ``dask scheduler`` and any number of ``dask worker``, each the leader of a session.

    Parameters
    ----------
    folder
        For what they write.
    settings
        Of Dask, as environment variables, for the scheduler.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = dict(settings or {})
        self._processes: list[subprocess.Popen[bytes]] = []
        self.port = _free_port()
        self.scheduler = self.start_scheduler()

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return f"tcp://127.0.0.1:{self.port}"

    def start_scheduler(self) -> "subprocess.Popen[bytes]":
        """Start a scheduler, at the same address as the last one, and wait until it listens."""
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port))
        wait_until(self._listens, what="a scheduler that listens")
        return self.scheduler

    def start_worker(self, *options: str, threads: int = 2) -> "subprocess.Popen[bytes]":
        """Start a worker, and do not wait until it is there."""
        return self._start("worker", self.address, "--nthreads", str(threads), *options)

    def close(self) -> None:
        """Kill everything that is left."""
        for process in self._processes:
            for pid in members(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            process.wait(100)

    def _start(self, kind: str, *options: str) -> "subprocess.Popen[bytes]":
        with open(self._folder / "dask.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", kind, "--no-dashboard", *options],
                cwd=self._folder,
                env=os.environ | self._settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def connected(cluster: Cluster, workers: int, **options: Any) -> Iterator[Any]:
    """Connect to a cluster, and wait until so many workers are there."""
    from distributed import Client  # noqa: PLC0415 - slow to import

    client = Client(cluster.address, set_as_default=False, **options)
    try:
        client.wait_for_workers(workers, timeout=100)
        yield client
    finally:
        client.close(timeout=2)
