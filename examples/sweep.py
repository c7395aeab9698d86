"""When does a shaken beam move chaotically? A parameter sweep that survives a crash.

The forced Duffing oscillator ``x'' + damping x' - x + x^3 = forcing cos(1.2 t)`` is
integrated for every pair of a grid, and its largest Lyapunov exponent is measured:
how fast two motions that begin side by side drift apart. Above zero is chaos.

Run it, end it half-way in any way you like, and run it again: it goes on from there.
Run it once more when it is done: it shows the table at once.
"""

import argparse
import functools
import importlib.util
import math
import os
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from thread_chunks import Checkpoint, chunk

FREQUENCY = 1.2
STEPS = 150  # of the integration, in each period of the forcing
CHAOTIC = 0.02  # an exponent above this counts as chaos: zero, and the error of a finite run

Grid = npt.NDArray[np.float64]
Oscillator = Callable[[float, float, int], float]


def lyapunov_exponent(damping: float, forcing: float, periods: int) -> float:
    """Measure the largest Lyapunov exponent of the forced Duffing oscillator.

    Parameters
    ----------
    damping, forcing
        The parameters of the oscillator.
    periods
        How many periods of the forcing to follow it, after a quarter as many to settle.

    Returns
    -------
    float
        Per unit of time.
    """
    h = 2 * math.pi / FREQUENCY / STEPS
    drive = (forcing * np.cos(np.pi * np.arange(2 * STEPS + 1) / STEPS)).tolist()  # at half steps
    x, v, dx, dv = 0.1, 0.0, 1.0, 0.0  # the motion, and a small deviation from it
    growth = 0.0
    for period in range(-periods // 4, periods):
        for step in range(0, 2 * STEPS, 2):
            x, v, dx, dv = runge_kutta(x, v, dx, dv, damping, drive[step : step + 3], h)
        size = math.hypot(dx, dv)
        dx, dv = dx / size, dv / size
        if period >= 0:
            growth += math.log(size)
    return growth / (periods * STEPS * h)


def runge_kutta(
    x: float, v: float, dx: float, dv: float, damping: float, drive: list[float], h: float
) -> tuple[float, float, float, float]:
    """Integrate motion and deviation over one step of length h; plain floats are faster than small arrays."""
    sums = [0.0, 0.0, 0.0, 0.0]
    x1, v1, dx1, dv1 = x, v, dx, dv
    for force, weight, reach in zip(
        (drive[0], drive[1], drive[1], drive[2]), (1, 2, 2, 1), (h / 2, h / 2, h, 0), strict=True
    ):
        a = x1 - x1 * x1 * x1 - damping * v1 + force
        da = (1 - 3 * x1 * x1) * dx1 - damping * dv1
        sums[0] += weight * v1
        sums[1] += weight * a
        sums[2] += weight * dv1
        sums[3] += weight * da
        x1, v1, dx1, dv1 = x + reach * v1, v + reach * a, dx + reach * dv1, dv + reach * da
    h /= 6
    return x + h * sums[0], v + h * sums[1], dx + h * sums[2], dv + h * sums[3]


def logged(func: Oscillator, log: str) -> Oscillator:
    """Make every call write a line to a log first: proof of which calls were really executed."""

    @functools.wraps(func)
    def wrapper(damping: float, forcing: float, periods: int) -> float:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, f"{damping} {forcing} {periods}\n".encode())
        os.close(descriptor)
        return func(damping, forcing, periods)

    return wrapper


def show(dampings: Grid, forcings: Grid, exponents: Grid) -> None:
    """Print the exponents as a table, chaos marked with a star."""
    print("\nLargest Lyapunov exponent (* chaos); damping downward, forcing across")
    print("       " + "".join(f"{forcing:6.2f} " for forcing in forcings))
    for damping, row in zip(dampings, exponents, strict=True):
        cells = (f"{value:6.2f}{'*' if value > CHAOTIC else ' '}" for value in row)
        print(f"{damping:6.3f} " + "".join(cells))


def plot(dampings: Grid, forcings: Grid, exponents: Grid, file: str) -> None:
    """Draw the exponents as a map."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional, and slow to import

    figure = Figure(layout="constrained")
    axes = figure.add_subplot(xlabel="forcing", ylabel="damping", title="Duffing oscillator")
    limit = float(np.abs(exponents).max())
    image = axes.pcolormesh(forcings, dampings, exponents, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(image, label="largest Lyapunov exponent")
    figure.savefig(file)
    print(f"\nThe map is in {file}.")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Map the chaos of the forced Duffing oscillator.")
    parser.add_argument("--path", default="sweep.pkl", help="the checkpoint (default: %(default)s)")
    parser.add_argument("--chunk-size", type=int, help="calls that run at the same time (default: CPUs)")
    parser.add_argument("--quick", action="store_true", help="a small grid, of a second or two")
    parser.add_argument("--plot", metavar="PNG", help="draw the outcome too; needs matplotlib")
    parser.add_argument(
        "--log", metavar="FILE", help="append a line for each executed call (from the first run on)"
    )
    args = parser.parse_args()
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: install it with python -m pip install matplotlib")
    return args


def main() -> None:
    """Run the sweep and show what came of it."""
    args = arguments()
    size, periods = ((3, 4), 60) if args.quick else ((6, 10), 400)
    dampings = np.linspace(0.1, 0.35, size[0])
    forcings = np.linspace(0.2, 0.65, size[1])
    parameters = [[float(damping), float(forcing), periods] for damping in dampings for forcing in forcings]
    func = logged(lyapunov_exponent, os.path.abspath(args.log)) if args.log else lyapunov_exponent

    new: list[int] = []  # the calls that this run had to execute
    start = time.perf_counter()
    outputs = chunk(
        func,
        parameters,
        chunk_size=args.chunk_size,
        path=args.path,
        on_result=lambda index, _: new.append(index),
    )
    wall = time.perf_counter() - start

    exponents = np.reshape(outputs, size)
    show(dampings, forcings, exponents)
    seconds = Checkpoint.load(args.path).seconds
    serial = sum(seconds[index] or 0.0 for index in new)
    print(f"\n{len(outputs) - len(new)} of {len(outputs)} results were saved before.")
    print(f"This run took {wall:.1f} s; the {len(new)} calls that it executed add up to {serial:.1f} s.")
    if args.plot:
        plot(dampings, forcings, exponents, args.plot)


main()  # no `if __name__ == "__main__":` is needed
