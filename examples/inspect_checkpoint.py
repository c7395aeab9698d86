"""Look into a checkpoint from a script of your own: values, parameters and failures.

``thread-chunks show sweep.pkl`` tells how far a run is, with nothing to write; this
shows what a script can read. ``python inspect_checkpoint.py sweep.pkl`` prints some
outputs, too. Without a file, a small checkpoint is made and shown.

Never open a checkpoint from a stranger: a pickle can run code.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from thread_chunks import Checkpoint, ThreadChunksError, chunk


def show(path: str, count: int) -> None:
    """Print what a checkpoint holds at this moment.

    Parameters
    ----------
    path
        The file.
    count
        How many outputs to show.
    """
    checkpoint = Checkpoint.load(path)
    seconds = sum(second or 0.0 for second in checkpoint.seconds)
    total = len(checkpoint.parameters)
    print(f"{path}: {checkpoint.done} of {total} calls of {checkpoint.func_name} are saved.")
    print(f"They took {seconds:.1f} s of computing. {len(checkpoint.failures)} calls failed.")
    for index, text in checkpoint.failures.items():
        print(f"  call {index}, with {checkpoint.parameters[index]}, failed: {text.strip().splitlines()[-1]}")
    for index, output in enumerate(checkpoint.output[:count]):
        # A call may well return None: `completed` tells that from a call that is not done.
        shown = repr(output) if checkpoint.completed[index] else "not done"
        print(f"  call {index}, with {checkpoint.parameters[index]}: {shown}")


def reciprocal(x: float) -> float:
    """Fail for zero."""
    return 1 / x


def main() -> None:
    """Show the checkpoint on the command line, or one made for the purpose."""
    parser = argparse.ArgumentParser(description="Show the progress that a checkpoint file holds.")
    parser.add_argument("path", nargs="?", help="the file (default: make a small one)")
    parser.add_argument("--outputs", type=int, default=5, help="outputs to show (default: %(default)s)")
    args = parser.parse_args()
    if args.path is None:
        with TemporaryDirectory() as folder:
            path = str(Path(folder) / "small.pkl")
            chunk(reciprocal, [[1.0], [2.0], [0.0], [4.0]], path=path, on_error="return", progress_bar=False)
            show(path, args.outputs)
        return
    try:
        show(args.path, args.outputs)
    except (OSError, ThreadChunksError) as error:
        parser.exit(1, f"{error}\n")


main()
