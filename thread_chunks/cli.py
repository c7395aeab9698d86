"""The command line: look into a checkpoint from any terminal, during the run too.

One rule: it reads checkpoints and never changes one, and whatever goes wrong is one line
on stderr and an exit code. This room knows what the rooms of looking can do, and nothing
of actors and runs.
"""

import argparse
import contextlib
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence

from . import _report
from ._checkpoint import file_of
from ._late import imported
from ._outfile import OutputError
from ._summary import Inspector, Summary
from .errors import CheckpointError, CheckpointUntrustedWarning

COMPLETE, STOPPED, USAGE, RUNNING, NO_FILE, NO_CHECKPOINT, REFUSED, INTERRUPTED = *range(7), 130
"""The exit codes; the documentation explains them."""

_CODES = {"complete": COMPLETE, "stopped": STOPPED, "running": RUNNING}
_EPILOG = """\
exit codes of show:
  0  every call has a result
  1  calls are missing, and no run holds the file
  2  wrong usage
  3  calls are missing, and a run is at work
exit codes of all commands:
  4  there is no such file, or it cannot be read
  5  it is not a checkpoint, is damaged at its head, or stems from a newer release
  6  it could not be done: a package is missing, OUT cannot be written, or FILE is another user's
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        What follows the name of the program; by default those of the process.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    SystemExit
        For wrong usage, ``--help`` and ``--version``.
    """
    options = _parser().parse_args(arguments)
    options.file = file_of(options.file)
    try:
        with _spoken_warnings(), _quiet_pipe():
            code: int = options.command(options)
            return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except CheckpointError as error:
        return _complain(_seen(error), NO_CHECKPOINT)
    except CheckpointUntrustedWarning as error:
        return _complain(str(error), REFUSED)
    except OSError as error:
        is_ours = error.filename is None or error.filename == options.file
        return _complain(_reason(error), NO_FILE if is_ours else REFUSED)
    except (ImportError, OutputError) as error:
        return _complain(str(error), REFUSED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="thread-chunks",
        description="Look into a checkpoint file of thread-chunks, while its run goes on or long after.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"%(prog)s {imported('thread_chunks').__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("show", help="how far a run is, how long its calls take, what failed")
    show.add_argument("file", metavar="FILE", help="the checkpoint")
    show.add_argument("--json", action="store_true", help="one JSON object in a line, for scripts")
    show.add_argument("--watch", action="store_true", help="show it again until the run ends, or Ctrl-C")
    show.add_argument(
        "--every", type=_period, default=2.0, metavar="SECONDS", help="how often (default: %(default)s)"
    )
    show.add_argument(
        "--no-unpickle", action="store_true", help="only count: show no parameters, run no code of the file"
    )
    show.set_defaults(command=_show)

    export = commands.add_parser("export", help="parameters, outputs and times as a table")
    export.add_argument("file", metavar="FILE", help="the checkpoint")
    export.add_argument("out", metavar="OUT", help="the table: .csv or .parquet; it is overwritten")
    export.set_defaults(command=_export)

    plot = commands.add_parser("plot", help="when each call ran on which worker, and time per call")
    plot.add_argument("file", metavar="FILE", help="the checkpoint")
    plot.add_argument("out", metavar="OUT", help="the picture: .png, .pdf or .svg; it is overwritten")
    plot.set_defaults(command=_plot)
    return parser


def _period(text: str) -> float:
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if 0 < seconds < math.inf:
            return seconds
    msg = f"not a number of seconds: {text!r}"
    raise argparse.ArgumentTypeError(msg)


# --- the commands ---------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    inspector = Inspector(options.file, unpickles=not options.no_unpickle)
    write = _write_json if options.json else _Screen().write
    while True:
        summary = inspector.look()
        write(summary)
        if not options.watch or summary.state != "running":
            return _CODES[summary.state]
        time.sleep(options.every)


def _write_json(summary: Summary) -> None:
    sys.stdout.write(f"{_report.as_json(summary)}\n")
    sys.stdout.flush()


class _Screen:
    """Where blocks are written: on a terminal the next one takes the place of the last."""

    def __init__(self) -> None:
        self._height = 0
        self._is_live = sys.stdout.isatty()
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal can show everything

    def write(self, summary: Summary) -> None:
        lines = _report.block(summary)
        back = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        if self._is_live:
            width = shutil.get_terminal_size().columns
            lines = [piece for line in lines for piece in _report.wrapped(line, width)]
            self._height = len(lines)
        elif self._height:
            back = "\n"
        self._height = len(lines)
        sys.stdout.write(back + "".join(f"{line}\n" for line in lines))
        sys.stdout.flush()


def _export(options: argparse.Namespace) -> int:
    from . import _table  # noqa: PLC0415 - it needs pandas

    for note in _table.export(options.file, options.out):
        _say(note)
    return 0


def _plot(options: argparse.Namespace) -> int:
    from . import _plot as picture  # noqa: PLC0415 - it needs matplotlib

    picture.plot(Inspector(options.file).look(), options.out)
    return 0


# --- what goes wrong --------------------------------------------------------------------


def _complain(text: str, code: int) -> int:
    _say(text)
    return code


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"thread-chunks: {_report.printable(text)}\n")


def _seen(error: CheckpointError) -> str:
    """Say what is wrong with a file to somebody who only looks: what a run is told to do is of no use to them."""
    text = str(error)
    for for_runs, for_looking in _ADVICE.items():
        text = text.replace(for_runs, for_looking)
    return text.strip()


_ADVICE = {
    " It was left alone.": "",
    " The file was left alone.": "",
    "; it was left alone": "",
    "Use another path, or move the file away.": "Is it the file at the path= of the run?",
    "Use that version, or another path.": "Use that version.",
    "Restore it from a backup, or move it away to start afresh.": "Look at a backup, or at FILE.bak if there is one.",
}


def _reason(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


@contextlib.contextmanager
def _spoken_warnings() -> Iterator[None]:
    """Say in one line each what the library warns of."""

    def say(message: Warning | str, *_: object) -> None:
        _say(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("error", CheckpointUntrustedWarning)
        warnings.showwarning = say  # type: ignore[assignment]
        yield


@contextlib.contextmanager
def _quiet_pipe() -> Iterator[None]:
    """End without a word when nobody reads on: ``thread-chunks show FILE | head``."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(COMPLETE)
