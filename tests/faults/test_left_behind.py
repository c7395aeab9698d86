"""What a call leaves in its process, replaced or used up, spoils later calls of that process, and never the end of a run."""

import pytest
from conftest import Programs

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

REPLACED = """
    builtins.open = None
    builtins.list = None
    builtins.len = builtins.type = builtins.map = builtins.zip = None
    builtins.isinstance = builtins.issubclass = lambda *them: False
    builtins.memoryview = builtins.bytearray = builtins.bytes = None
    builtins.BaseException = builtins.OSError = builtins.MemoryError = int
    vars(builtins).clear()
    del builtins.__import__
    os.write = os.read = os.readv = None
    os.fstat = os.getpid = lambda *them: 7
    os._exit = None
    os.environ = None
    struct.pack = struct.unpack = struct.Struct = None
    time.monotonic = time.time = time.perf_counter = None
    time.monotonic = lambda: 1e18
    pickle.loads = pickle.dumps = _pickle.loads = _pickle.dumps = None
    zlib.crc32 = lambda *them: 0
    threading.Thread = threading.Lock = threading.current_thread = None
    threading._shutdown = None
    queue.SimpleQueue = _queue.SimpleQueue = _queue.Empty = None
    itertools.chain = array.array = None
    gc.enable = gc.freeze = gc.isenabled = None
    io.BytesIO = None
    traceback.format_exception = traceback.format_tb = None
    sys.modules.clear()
    sys.modules = None
    sys.stdout = sys.stderr = None
    sys.stdout.close(), sys.stderr.close()
    sys.stdout = sys.stderr = type("Exits", (), {"write": lambda self, text: exit(3), "flush": exit})()
    sys.excepthook = sys.unraisablehook = None
    sys.path.clear(), sys.meta_path.clear(), sys.path_hooks.clear()
    copyreg.dispatch_table.update(dict.fromkeys([bytes, tuple, list, str, int], lambda value: 1 / 0))
"""

HOOKS = """
    sys.setrecursionlimit(15)
    sys.settrace(lambda *them: 1 / 0)
    sys.setprofile(lambda *them: 1 / 0)
    threading.settrace(lambda *them: 1 / 0), threading.setprofile(lambda *them: 1 / 0)
    sys.addaudithook(lambda *them: 1 / 0)
    sys.addaudithook(lambda *them: exit(3))
    sys.setswitchinterval(1000)
    gc.callbacks.append(lambda *them: 1 / 0)
    gc.disable()
    signal.signal(signal.SIGALRM, lambda *them: 1 / 0), signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL), signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(600,)).start()
    threading.Thread(target=exit).start()
    threading.Timer(0.01, lambda: 1 / 0).start()
    atexit.register(exit, 3)
    atexit.register(os._exit, 9)
    faulthandler.dump_traceback_later(0.05, exit=True)
    [raise_in(number, py_object(KeyError)) for number in threading._active]
    socket.setdefaulttimeout(0)
    asyncio.set_event_loop(asyncio.new_event_loop())
"""

USED_UP = """
    os.closerange(0, 4096)
    os.closerange(3, 4096)
    [os.dup2(os.open("/dev/null", os.O_RDWR), number) for number in range(3, 64)]
    [os.set_blocking(number, False) for number in range(20) if os.path.exists(f"/dev/fd/{number}")]
    os.umask(0o777)
    resource.setrlimit(resource.RLIMIT_AS, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (1, 1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
    resource.setrlimit(resource.RLIMIT_STACK, (65536, 65536))
"""


@pytest.mark.parametrize("kind", ["REPLACED", "HOOKS", "USED_UP"])
def test_run_ends_whatever_a_call_leaves_behind_in_its_process(kind: str, programs: Programs) -> None:
    """Each run ends with every result but, at the most, that of the call itself."""
    program = """
        import faulthandler, os
        from thread_chunks import Failure, chunk

        def f(x, deed):
            if x == 1:
                import array, asyncio, atexit, builtins, copyreg, faulthandler, gc, io, itertools, os, pickle, _pickle
                import queue, _queue, resource, signal, socket, struct, sys, threading, time, traceback, zlib
                from ctypes import c_ulong, py_object, pythonapi
                raise_in = lambda number, kind: pythonapi.PyThreadState_SetAsyncExc(c_ulong(number), kind)
                exec(deed, locals())
            return x

        for deed in open(0).read().splitlines():
            print(deed, flush=True)
            faulthandler.dump_traceback_later(30, exit=True)
            got = chunk(f, [[x, deed] for x in range(5)], chunk_size=2, on_error="return", progress_bar=False)
            assert got[0] == 0 and got[2:] == [2, 3, 4], got
            assert got[1] == 1 or isinstance(got[1], Failure), got
            faulthandler.cancel_dump_traceback_later()
    """
    deeds = "\n".join(line.strip() for line in globals()[kind].strip().splitlines())
    programs.run(program, flags=(), stdin=deeds)
