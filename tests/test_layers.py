"""The map of the rooms: imports run one way, and nothing unfinished is left lying about."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import STRICT, Programs, engines

import thread_chunks

FOLDER = Path(thread_chunks.__file__).parent
DOCS = Path(__file__).parent.parent / "docs"
TREES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.py"))}
MODULES = [name for name in TREES if name != "__init__"]

FLOORS = [
    {
        "_late",
        "_code",
        "_cpus",
        "_garbage",
        "_pace",
        "_script",
        "_inside",
        "_halt",
        "_interpreter",
        "_literal",
        "_importable",
    },
    {"_classes"},
    {"_definitions"},
    {"_wire"},
    {"errors", "config", "messages", "_outcome", "_outbox", "_names", "_arrays"},
    {"_parts", "_knot"},
    {
        "_parameters",
        "_canonical",
        "_records",
        "_child",
        "_by_value",
        "_policy",
        "_queue",
        "_actor",
        "_reader",
    },
    {
        "_process",
        "_bytecode",
        "_settings",
        "_difference",
        "_memory",
        "_time_limit",
        "_format",
        "_sections",
        "_relay",
        "_trace",
        "_fault",
    },
    {"_callee"},
    {"_reach"},
    {"_identity", "_log", "_streams", "_received", "_engine"},
    {"_mismatch", "_mutation", "_travel", "_bar"},
    {"_state", "_glance", "_outfile", "progress"},
    {"_frame"},
    {"_checkpoint"},
    {"_survey", "_rescue"},
    {"_resume", "_summary"},
    {"_writer", "_report", "_table"},
    {"_plot"},
    {"cli"},
    {"__main__"},
]
"""From the ground up: who stands on a floor imports from the floors below."""

WORKERS = {name for name in TREES if name == "worker" or name.endswith("_worker")}


def imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node


def ours(tree: ast.Module) -> set[str]:
    """Return the rooms that a module imports, wherever in it."""
    found: set[str] = set()
    for node in imports(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            if parts[0] == "thread_chunks":
                found |= {parts[1]} if parts[1:] else {alias.name for alias in node.names}
        else:
            found |= {".".join(alias.name.split(".")[1:2]) for alias in node.names if _is_ours(alias.name)}
    return found


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "thread_chunks"


def others(tree: ast.Module) -> set[str]:
    """Return the top-level names of everything else that is imported when the module is."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found - {"thread_chunks"}


USES = {name: ours(tree) for name, tree in TREES.items()}


def test_imports_are_found_however_they_are_written() -> None:
    """The test sees every way to import one of our rooms."""
    source = """
from . import a, b
from .c import x
from .d.e import x
import thread_chunks.f
import thread_chunks
from thread_chunks import g
from thread_chunks.h import x
def late():
    from . import i
if TYPE_CHECKING:
    from .j import x
import os.path
"""
    assert ours(ast.parse(source)) - {""} == set("abcdfghij")
    assert others(ast.parse(source)) == {"os"}


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_imports_run_one_way(floor: int) -> None:
    """A room of the checkpoint imports only rooms below it, so each can be read without those above."""
    below = set[str]().union(*FLOORS[:floor])
    for name in FLOORS[floor]:
        assert USES[name] <= below, name


def test_imports_have_no_cycle() -> None:
    """No two rooms need each other, by whatever way."""
    left = {name: uses & set(MODULES) for name, uses in USES.items() if name != "__init__"}
    while free := [name for name, uses in left.items() if not uses & set(left)]:
        for name in free:
            del left[name]
    assert left == {}


def test_rooms_that_are_named_exist() -> None:
    """Every import of ours names a room that is there."""
    public = set(thread_chunks.__all__)
    for name, uses in USES.items():
        assert uses <= set(TREES) | public, name


def test_plan_imports_only_the_protocol_config_and_errors() -> None:
    """The plan is pure policy: it knows no actors, no threads and no clock."""
    assert USES["_plan"] <= {"messages", "config", "errors", "_policy", "_queue", "_memory", "_time_limit"}
    assert USES["_policy"] <= {"messages", "config", "errors"}
    for name in ("_plan", "_policy"):
        assert others(TREES[name]) <= {"collections", "dataclasses", "typing", "math", "itertools"}


def test_child_imports_only_its_own_rooms_and_nothing_slow() -> None:
    """What runs in the child starts fast: its rooms import little of the standard library, and no others of ours."""
    rooms = {"_wire", "_classes", "_inside", "_outcome", "_outbox"}
    assert USES["_child"] == rooms
    rooms |= {"_code", "_definitions", "_script"}
    assert set[str]().union(*(USES[name] for name in rooms)) <= rooms
    imported = set[str]().union(*(others(TREES[name]) for name in {"_child", *rooms}))
    assert imported <= set(sys.stdlib_module_names)
    assert not imported & {
        "asyncio", "ctypes", "dataclasses", "inspect", "logging", "multiprocessing", "re", "shutil", "socket",
        "subprocess", "tempfile", "traceback", "typing",
    }  # fmt: skip


def test_nothing_of_ours_makes_shared_memory() -> None:
    """What the system keeps when its maker is killed is not made at all."""
    for name, tree in TREES.items():
        assert not others(tree) & {"mmap", "_multiprocessing", "_posixshmem"}, name


def test_nothing_of_ours_is_deprecated(programs: Programs) -> None:
    """A run, a resume and a look warn of nothing in any room of ours, in the script and in its children."""
    program = """
        from thread_chunks import Checkpoint, Chunker, ThreadWorker, chunk, cli

        for worker in (None, ThreadWorker):
            chunk(lambda x: x, [[1], [2]], path="c.pkl", **({"worker": worker} if worker else {}))
        with Chunker(abs, chunk_size=2) as chunker:
            print(sorted(chunker.as_completed([[-1], [-2]])))
        print(Checkpoint.load("c.pkl").output, cli.main(["show", "c.pkl"]))
    """
    rooms = [f"thread_chunks.{name}" for name in TREES if name != "__init__"]
    flags = [part for room in ("__main__", "thread_chunks", *rooms) for part in ("-W", f"error:::{room}")]
    assert "[1, 2] 0" in programs.run(program, flags=(*STRICT, *flags)).stdout


def test_ground_floor_imports_nothing_slow() -> None:
    """Errors and numbers need nothing but the standard library, and the protocol no more than pykka."""
    for name in ("errors", "config"):
        assert others(TREES[name]) <= set(sys.stdlib_module_names), name
    assert others(TREES["messages"]) <= set(sys.stdlib_module_names) | {"pykka"}


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_workers_know_neither_plan_nor_checkpoint(name: str) -> None:
    """A worker runs calls: what is run next, and where results go, is not known to it."""
    assert not USES[name] & {"_plan", "_supervisor", "_writer", "_checkpoint", "_log", "_format", "_resume"}
    assert not USES[name] & {"_run", "_pool", "_options", "_job", "progress"}


def test_engines_of_others_are_imported_when_they_are_used() -> None:
    """Nothing that is imported with the package imports Ray or Dask, and the far halves know neither of them."""
    for name, tree in TREES.items():
        assert not others(tree) & {"ray", "distributed", "dask", "loky", "mpi4py", "executorlib"}, name
    assert USES["_engine"] <= {"_inside", "_outcome", "_wire"}
    assert USES["_ray_host"] == {"_engine"}
    assert not USES["_ray_actor"] & {"worker", "ray_worker", "_run", "_pool"}
    assert not USES["_ray_session"] & {"messages", "worker", "ray_worker", "_ray_actor", "_run", "_pool"}


def test_tests_of_engines_have_their_marker() -> None:
    """A test file that needs Dask, Ray, MPI or executorlib marks its tests, which not everybody can run."""
    sources = {
        path.name: path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")
    }
    needing = {name for name, source in sources.items() if engines(source)}
    assert needing >= {"test_dask.py", "test_executorlib.py", "test_mpi.py", "test_ray.py"}
    assert [name for name in needing if not re.search(r"mark\.engines|marks=engines\(", sources[name])] == []


def test_looking_knows_nothing_of_running() -> None:
    """Who looks into a checkpoint needs no actor, and nothing that could change the file."""
    rooms = {"cli", "_summary", "_report", "_glance", "_table", "_plot", "_frame", "_outfile"}
    for name in rooms:
        assert not USES[name] & {"_chunk", "_run", "_supervisor", "_writer", "_resume", "worker"}, name
        assert not others(TREES[name]) & {"pykka", "pandas", "matplotlib", "fcntl"}, name


def test_supervisor_knows_no_checkpoint() -> None:
    """The supervisor passes results on and does not know what becomes of them."""
    assert not USES["_supervisor"] & {
        "_checkpoint",
        "_writer",
        "_log",
        "_format",
        "_resume",
        "_child_process",
    }


def test_only_the_door_imports_the_public_call() -> None:
    """Nothing inside needs `chunk`: it is for users."""
    assert [name for name, uses in USES.items() if "_chunk" in uses] == ["__init__"]


def test_only_actors_import_pykka() -> None:
    """The rooms of plan, file and values know nothing of actors."""
    for name in ("_plan", "_queue", "_memory", "_time_limit", "_format", "_log", "_canonical", "_bytecode", "_settings", "_callee", "_reach", "_identity", "_difference",
                 "_mismatch", "_parameters", "_state", "_checkpoint", "_survey", "_resume", "_by_value", "_child", "_child_process",
                 "_wire", "progress", "_bar", "_pace", "_streams", "_relay", "_reader", "_failures", "_tally"):  # fmt: skip
        assert "pykka" not in others(TREES[name]), name


# --- what must not be there -------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TREES))
def test_module_holds_nothing_unfinished(name: str) -> None:
    """No note of work left to do, no output by print, and no debugger is left in the package."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"):
        assert word not in text
    calls = {
        node.func.id
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"print", "breakpoint", "input", "exec", "eval"}


@pytest.mark.parametrize("name", sorted(TREES))
def test_module_opens_with_what_it_is_for(name: str) -> None:
    """Every module says in its first lines what it is for."""
    assert ast.get_docstring(TREES[name])


@pytest.mark.parametrize("name", ["utils", "base", "common", "core", "helpers", "_utils", "_base", "_common"])
def test_no_module_is_a_drawer_for_everything(name: str) -> None:
    """One noun, one module: there is no drawer for what has no place."""
    assert not (FOLDER / f"{name}.py").exists()
    assert not (FOLDER / name).exists()


# --- the public list --------------------------------------------------------------------------


def test_public_list_is_complete() -> None:
    """`__all__` is sorted, without repetition, and names exactly what the package imports for its users."""
    names = thread_chunks.__all__
    imported = {
        alias.asname or alias.name
        for node in imports(TREES["__init__"])
        for alias in node.names
        if not (alias.asname or alias.name).startswith("_")
    }
    assert names == sorted(names, key=lambda name: (name.isupper(), name))
    assert len(names) == len(set(names))
    assert set(names) == imported
    assert all(hasattr(thread_chunks, name) for name in names)


def test_public_list_names_every_error() -> None:
    """Every exception and warning that a user may want to catch can be imported from the package."""
    errors = {node.name for node in TREES["errors"].body if isinstance(node, ast.ClassDef)}
    assert errors <= set(thread_chunks.__all__)


def test_errors_are_caught_by_their_builtin_and_by_their_base() -> None:
    """Each error is a `ThreadChunksError` and the builtin a user would catch; each warning a `UserWarning`."""
    for node in TREES["errors"].body:
        if not isinstance(node, ast.ClassDef) or node.name == "Failure":
            continue
        kind = getattr(thread_chunks, node.name)
        if issubclass(kind, Warning):
            assert issubclass(kind, UserWarning)
            continue
        assert issubclass(kind, thread_chunks.ThreadChunksError)
        if node.name not in {"ThreadChunksError", "CheckpointError", "RemoteTraceback"}:
            assert kind.__mro__[1:] != thread_chunks.ThreadChunksError.__mro__, node.name


def test_package_is_typed() -> None:
    """Type checkers of users see our types."""
    assert (FOLDER / "py.typed").exists()


def test_map_for_contributors_names_every_room() -> None:
    """Who wants to change something finds each module, and no other, in the map of docs/contributing.md."""
    page = (DOCS / "contributing.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("\n## The map of rooms\n")
    table = "\n".join(line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| "))
    named = [name for name in re.findall(r"`(\w+)`", table) if name not in {"chunk", "Chunker"}]
    assert sorted(named) == sorted(TREES)


def test_functions_that_the_chapter_on_actors_names_exist() -> None:
    """Each step of the life of a call, and of each death, is where docs/actors.md says."""
    page = (DOCS / "actors.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\|[ \d]*\| `(\w+)\.py` \| `([\w.]+)` \|", page, re.MULTILINE)
    assert len(steps) > 20
    assert [step for step in steps if step[1] not in _functions(TREES[step[0]])] == []
    everywhere = {name for tree in TREES.values() for name in _functions(tree)}
    named = set(re.findall(r"`(_?[A-Z]\w+\.\w+)`", page))
    assert len(named) > 20
    assert sorted(named - everywhere) == []


def _functions(tree: ast.Module) -> set[str]:
    """Return the functions of a module, those of classes with their class."""
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found
