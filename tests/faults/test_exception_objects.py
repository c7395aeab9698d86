"""No exception object, however it is made, costs more than its own call."""

import pytest
from conftest import Programs

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

NASTY = '''
import sys, threading
from thread_chunks import CallTimeoutError, WorkerDiedError

def leave(*them, **named):
    raise SystemExit(3)

class Text(str):
    __getitem__ = __len__ = __str__ = __hash__ = __eq__ = leave
    def __reduce__(self):
        return exec, ("raise SystemExit(3)",)

class Meta(type):
    __name__ = __module__ = __mro__ = __dict__ = property(leave)
    __instancecheck__ = __subclasscheck__ = __hash__ = __eq__ = __getattribute__ = leave

METHODS = """__str__ __repr__ __reduce__ __reduce_ex__ __getattribute__ __getattr__ __setattr__ __eq__ __hash__ __bool__
    __len__ __format__ __setstate__ with_traceback add_note""".split()
READ = """__class__ __cause__ __context__ __suppress_context__ __traceback__ __notes__ __dict__ __doc__ __module__
    args errno name code parameters index""".split()
KINDS = [(Exception, name, leave) for name in METHODS]
KINDS += [(Exception, name, property(leave)) for name in READ]
KINDS += [(Exception, name, property(lambda self: 5)) for name in READ]
KINDS += [
    (base, name, property(leave))
    for base in (WorkerDiedError, CallTimeoutError, MemoryError, SyntaxError, ImportError, NameError, AttributeError)
    for name in ("__class__", "parameters", "name", "text", "lineno", "with_traceback")
]
KINDS += [(BaseException, name, property(leave)) for name in ("__class__", "__repr__", "__notes__")]
KINDS += [(Exception, "__cause__", property(lambda self: type(self)()))]
KINDS += [(Exception, "__str__", lambda self, text=text: text) for text in (5, Text("hello"), "x" * 30_000_000)]

def with_(error, **attributes):
    for name, value in attributes.items():
        setattr(error, name, value)
    return error

def cycle():
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one
    return one

def long_chain():
    error = None
    for number in range(50_000):
        error = with_(ValueError(number), __cause__=error)
    return error

def deep():
    sys.setrecursionlimit(50_000)
    def one(left):
        return two(left - 1)
    def two(left):
        return one(left - 1) if left > 0 else 1 / 0
    try:
        one(10_000)
    except ZeroDivisionError as error:
        return error

MADE = [
    lambda: ValueError(Text("x")), lambda: ValueError(threading.Lock()), lambda: ValueError("\\ud800"),
    lambda: with_(ValueError(1), __notes__=[Text("x"), 5, None]), lambda: with_(ValueError(1), __notes__=5),
    lambda: ExceptionGroup("group", [ValueError(1), made(0)]),
    lambda: with_(ValueError(1), __cause__=made(METHODS.index("__getattribute__"))),
    lambda: type.__call__(Meta, "Metaclass", (Exception,), {})(),
    KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration, cycle, long_chain, deep,
]

def made(number):
    if number >= len(KINDS):
        return MADE[number - len(KINDS)]()
    base, name, value = KINDS[number]
    return type(f"Made{number}", (base,), {name: value, "__init__": lambda self, *them: None})("text")

COUNT = len(KINDS) + len(MADE)

def f(number):
    if number >= 0:
        raise made(number)
    return number
'''


@pytest.mark.parametrize("worker", ["ThreadWorker", "ProcessWorker", "ExecutorWorker.on(pool)"])
def test_run_loses_one_call_only_whatever_its_exception_is_made_of(worker: str, programs: Programs) -> None:
    """All other calls return, and each failure names the type, however errors are handed over."""
    programs.write(NASTY, "nasty.py")
    program = f"""
        from concurrent.futures import ThreadPoolExecutor
        from thread_chunks import *
        import nasty

        rows = [[number] for number in range(nasty.COUNT)] + [[-1]]
        with ThreadPoolExecutor(2) as pool:
            options = dict(worker={worker}, chunk_size=2, progress_bar=False)
            *failures, last = chunk(nasty.f, rows, path="c.pkl", on_error="return", **options)
            assert last == -1
            for number, failure in enumerate(failures):
                assert type(failure) is Failure, (number, failure)
                assert type(failure.traceback) is str and len(failure.traceback) < 300_000, number
                if number < len(nasty.KINDS):
                    assert f"Made{{number}}" in failure.traceback, (number, failure.traceback)
            try:
                chunk(nasty.f, rows, on_error="continue", **options)
            except BaseExceptionGroup as group:
                assert len(group.exceptions) == nasty.COUNT, len(group.exceptions)
            else:
                raise AssertionError
            with Chunker(nasty.f, **options) as chunker:
                for number in range(0, nasty.COUNT, 3):
                    try:
                        chunker([[number]])
                    except RunStoppedError:
                        raise
                    except BaseException:
                        continue
                    raise AssertionError(number)
                assert chunker([[-1]]) == [-1]
        with open("done", "w") as file:
            file.write("done")
    """
    programs.run(program, flags=("-W", "ignore"))
    assert (programs.folder / "done").exists()
