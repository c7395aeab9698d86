"""A worker that runs each call as an external program and reads what it prints.

For a code in Fortran or C that takes its numbers on the command line. The program here is a
pendulum in awk, because every Unix has awk; put the name of yours in its place.

The program is started by the worker's child process. So it is killed with it, on Ctrl-C and by
``timeout=``, and nothing of a killed call computes on. Only when the script itself is killed, by
``kill -9`` or SIGTERM, a program that runs at that moment goes on to its end, and its result is lost.
"""

import functools
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from thread_chunks import Checkpoint, Failure, ProcessWorker, chunk


class CommandError(Exception):
    """A program ended with an exit code other than 0, or printed what cannot be read."""


def run_command(command: Sequence[str]) -> str:
    """Run a program in the child and return what it prints."""
    done = subprocess.run(  # noqa: S603 - it is our own
        command, capture_output=True, text=True, check=False
    )
    if done.returncode:
        error = done.stderr.strip()
        message = f"{command[0]} ended with exit code {done.returncode}: {error}"
        raise CommandError(message)
    return done.stdout


class CommandWorker(ProcessWorker):
    """Run each call as a program: the function says which, ``parse`` reads its output.

    Parameters
    ----------
    func : callable, optional
        Makes the command line of one call: a list of texts.
    parse : callable
        Makes the result of one call from the program's output, a text.
    """

    def __init__(
        self,
        func: Callable[..., Any] | None = None,
        *,
        parse: Callable[[str], Any],
    ) -> None:
        super().__init__(func)
        self.parse = parse

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Make the command line here, run it in the child, and read its output here."""
        printed = super().execute(run_command, func(*args, **kwargs))
        try:
            return self.parse(printed)
        except ValueError as error:
            message = f"cannot read the output {printed!r}"
            raise CommandError(message) from error


PENDULUM = """
BEGIN {
    if (rod <= 0) { print "a pendulum needs a length" > "/dev/stderr"; exit 2 }
    dt = 0.0001; x = angle; v = 0
    while (x > 0) { v -= 9.81 / rod * sin(x) * dt; x += v * dt; t += dt }
    printf "steps = %d\\nperiod = %.3f\\n", t / dt, 4 * t
}
"""


def pendulum(length: float, angle: float) -> list[str]:
    """Return the command line: metres and radians."""
    return ["awk", "-v", f"rod={length}", "-v", f"angle={angle}", PENDULUM]


def numbers(printed: str) -> dict[str, float]:
    """Read lines of the form ``name = number``."""
    pairs = (line.split("=") for line in printed.splitlines())
    return {name.strip(): float(value) for name, value in pairs}


outputs = chunk(
    pendulum,
    [[1.0, 0.1], [0.0, 0.1], [1.0, 2.0], [2.0, 0.1]],
    worker=functools.partial(CommandWorker, parse=numbers),
    path="pendulum.pkl",
    on_error="return",
    timeout=60,
)
for output in outputs:
    print(output.exception if isinstance(output, Failure) else f"{output['period']} s")
print(f"{Checkpoint.load('pendulum.pkl').done} of {len(outputs)} results are saved")
