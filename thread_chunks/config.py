"""Every number the library uses, with its reason.

The values are read when a call is made, not when the module is imported: set
``thread_chunks.config.progress_bar = False`` at any time and the next call to
`chunk` obeys. A `Chunker` reads `default_chunk_size` when it is made, and an
`ExecutorWorker` `stall_seconds`. The numbers belong to the process of the script: any thread
may set them, and child processes do not see them. This room holds numbers and knows
nothing of who uses them.

Examples
--------
>>> from thread_chunks import chunk, config
>>> config.progress_bar, before = False, config.progress_bar
>>> chunk(abs, [[-1], [-2]])
[1, 2]
>>> config.progress_bar = before
"""

from typing import Any

from . import _cpus

progress_bar: bool = True
"""Whether `chunk` and `Chunker` show a progress bar on stderr unless told otherwise."""

chunk_seconds: float = 0.05
"""Seconds of work that one chunk of very short calls should hold. A child waits about
half a millisecond between two chunks, so 50 ms keep that at one per cent."""

smallest_chunk_seconds: float = 0.001
"""Seconds of work that a chunk should hold even when only a fair part of the rest
is to be given out: at the end of a run of very short calls, too."""

lease_seconds: float = 0.1
"""Seconds after which a worker starts no further call of its chunk but gives the
rest back, so that one unexpectedly long call never holds up the others."""

call_overhead_seconds: float = 1.5e-6
"""Seconds that pickling, sending and saving one trivial call takes, beside the call
itself, when chunks are sized."""

chunk_growth: int = 8
"""How many times larger than the last one a chunk may be. The first chunk is one
call, so a wrong guess is found out while it is still cheap."""

chunk_bytes: int = 1 << 20
"""Bytes of pickled parameters and results that one chunk should hold: memory is
what the user is short of, so large calls go out one by one."""

function_bytes: int = 64 << 10
"""Bytes of a pickled function up to which it travels with each call, where an engine could
also be asked to keep it. To ask takes a round trip, and what is kept can be lost."""

backlog_bytes: int = 64 << 20
"""Bytes of results that may wait to be saved before no further call starts: when the
disk is slower than the calls, they wait for it, and memory stays bounded. Many groups
fit into it, so a disk that keeps up never holds up a call."""

stall_seconds: float = 10.0
"""Seconds that a cluster may be without workers before the caller is warned: they are
often replaced within seconds."""

call_restarts: int = 1
"""How often a call that took its worker process down is tried again in a new one.
One, because the system's out-of-memory killer often picks an innocent process."""

restart_budget: int = 5
"""Worker processes that may be restarted, per worker, within `restart_seconds`
before the run is given up: a crash loop must end."""

restart_seconds: float = 10.0
"""The period of `restart_budget`, in seconds."""

grace_seconds: float = 2.0
"""Seconds that a worker is given to end by itself before it is killed or left."""

interrupt_seconds: float = 0.3
"""Seconds of the same after Ctrl-C, when the caller should have its prompt back within a second."""

actor_end_seconds: float = 0.1
"""Seconds to wait for the reason that an actor which ended may still be about to tell."""

ray_stop_seconds: float = 10.0
"""Seconds to wait until Ray, if it was started for a run, has stopped. It takes one or two,
and a script that starts another Ray right afterwards should not meet the old one."""

load_seconds: float = 5.0
"""Seconds that a worker process may take, at least, to start and to load the function where there is a
`timeout`: importing is done once, and on a busy machine it takes longer than a short call may."""

heartbeat_seconds: float = 0.5
"""Seconds between two checks, while waiting, that whoever is waited for lives."""

save_retry_seconds: float = 1.0
"""Seconds to wait, after results could not be saved, before saving is tried again. Each
try may write everything that waits, so one for every result would cost more and more."""

fold_bytes: int = 16 << 20
"""Bytes of records up to which a finished run rewrites its checkpoint as one plain
pickle. Beyond that the rewrite would cost more than it is worth."""

shown_calls: int = 5
"""Calls that one warning names: enough to find what they have in common."""

failure_bytes: int = 64 << 10
"""Bytes of superseded failures that a checkpoint may hold, beside as many as are still told of,
before a run that resumes leaves them out: a run that fails and fails must not fill the disk."""

resume_repr_chars: int = 60
"""Characters of a parameter's ``repr`` shown when a run explains why it did not
resume: enough to recognise it, short enough for one line."""

log_line_seconds: float = 30.0
"""Seconds between two lines of progress when stderr is not a terminal: a log file
should hold a few lines, not thousands."""

log_idle_seconds: float = 300.0
"""Seconds between two such lines while no call ends: a log of calls that take hours should
show that the run lives, and ten such lines a call say no more than one."""

bar_seconds: float = 0.1
"""Seconds between two states of the bar on a terminal while calls end: faster than that
nobody reads."""

unfinished_line_seconds: float = 0.5
"""Seconds to wait for the rest of a line that a call began to print before it is shown
as it is, on a line of its own: one that prints dots should be seen to live."""

printed_bytes: int = 1 << 20
"""Bytes printed by calls that may wait for the thread which draws the bar. When more
wait, it is busy with something else, and they go to the terminal without it."""


def __getattr__(name: str) -> Any:
    """Compute `default_chunk_size` when it is read.

    Parameters
    ----------
    name
        The attribute asked for.

    Returns
    -------
    int
        The CPUs this process may really use, seeing its affinity mask and the
        limits of its container.
    """
    if name == "default_chunk_size":
        return _cpus.usable()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
