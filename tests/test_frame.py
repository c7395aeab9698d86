"""A checkpoint as a table: one row for each call, its columns named as the function names them."""

import ast
import csv
import functools
import importlib.util
import math
import operator
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Programs
from test_compatibility import old_file
from test_literal import Proxy

from thread_chunks import Checkpoint, ThreadWorker, chunk, config
from thread_chunks._literal import written
from thread_chunks._parameters import names_of
from thread_chunks._table import export

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

KNOWN = ["output", "completed", "seconds", "started", "worker", "peak_memory", "error"]


@pytest.fixture
def path(folder: Path) -> Path:
    """Where the checkpoint is."""
    return folder / "c.pkl"


def table(func: Callable[..., Any], rows: Any, path: Path, **options: Any) -> Any:
    """Run calls and return the table that a new look at the file gives."""
    chunk(func, rows, path=path, chunk_size=2, worker=ThreadWorker, on_error="return", **options)
    return Checkpoint.load(path).to_frame()


# --- names ---------------------------------------------------------------------------------------


def everything(first: int, /, second: int = 2, *rest: int, scale: int = 1, **options: int) -> int:
    """Take parameters of every kind."""
    return first * scale


def keyword_only(x: int, *, scale: int = 1) -> int:
    """Take one by place and one by name."""
    return x * scale


class Scaler:
    """A callable object."""

    def __call__(self, x: int, y: int) -> int:
        """Multiply."""
        return x * y

    def method(self, z: int) -> int:
        """Return it."""
        return z


@pytest.mark.parametrize(
    ("func", "names"),
    [
        (everything, ("first", "second", "*rest", "scale", "**options")),
        (keyword_only, ("x", "*", "scale")),
        (lambda a, b=1: a, ("a", "b")),
        (functools.partial(everything, 1), ("second", "*rest", "scale", "**options")),
        (Scaler(), ("x", "y")),
        (Scaler().method, ("z",)),
        (max, ()),
        (dict.fromkeys, ("iterable", "value")),
    ],
)
def test_names_are_those_of_the_signature(func: Callable[..., Any], names: tuple[str, ...]) -> None:
    """Every kind of callable tells what its parameters are called; without a signature there are no names."""
    assert names_of(func) == names


def test_columns_are_named_by_the_signature(path: Path) -> None:
    """By place, by name or left out: the columns stand in the order of the signature, however the calls were written."""
    rows = [[1], [1, 7], [1, 7, 8, 9], [2, 7]]
    frame = table(everything, rows, path)
    assert list(frame.columns) == ["first", "second", "rest_0", "rest_1", *KNOWN]
    assert frame["first"].tolist() == [1, 1, 1, 2]
    assert frame["second"].isna().tolist() == [True, False, False, False]
    assert frame.loc[2, ["rest_0", "rest_1"]].tolist() == [8, 9]
    assert frame["second"].dtype == "Int64"
    assert frame.index.name == "call"


def test_keyword_rows_and_positional_rows_share_columns(path: Path) -> None:
    """A parameter has one column, by place and by name; unknown options come last."""
    rows = [{"scale": 2, "x": 5}, [6], {"x": 7}]
    frame = table(keyword_only, rows, path)
    assert list(frame.columns) == ["x", "scale", *KNOWN]
    assert frame["x"].tolist() == [5, 6, 7]
    assert frame["output"].tolist() == [10, 6, 7]

    def pick(**options: int) -> int:
        return sum(options.values())

    frame = table(pick, [{"b": 1}, {"a": 2, "b": 3}], path.with_name("d.pkl"))
    assert list(frame.columns) == ["b", "a", *KNOWN]


def test_function_without_a_signature_has_numbered_columns(path: Path) -> None:
    """Where nothing names the parameters, their places do."""
    frame = table(max, [[1, 2], [3, 1, 7]], path)
    assert list(frame.columns) == ["arg0", "arg1", "arg2", *KNOWN]
    assert frame["output"].tolist() == [2, 7]


def test_parameter_with_the_name_of_a_known_column_gets_an_underscore(path: Path) -> None:
    """``output`` is always what the call returned."""

    def merge(output: int, seconds: int, output_: int) -> int:
        return output + seconds + output_

    frame = table(merge, [[1, 2, 3]], path)
    assert list(frame.columns) == ["output_", "seconds_", "output__", *KNOWN]
    assert frame["output"].tolist() == [6]


def test_option_with_the_name_of_a_place_has_its_own_column(path: Path) -> None:
    """What ``**options`` takes does not hide a parameter of the same name that is given by place."""
    from thread_chunks._parameters import columns_of  # noqa: PLC0415
    from thread_chunks.messages import Call  # noqa: PLC0415

    calls: Any = [Call(0, (1,), {"x": 2})]
    assert columns_of(calls, ("x", "**options")) == {"x": [1], "x_": [2]}


@pytest.mark.parametrize("fold_bytes", [0, config.fold_bytes], ids=["records", "folded"])
def test_names_are_known_however_the_file_was_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, fold_bytes: int
) -> None:
    """In records and folded, resumed and reused, saved by hand: the names stay."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    assert list(table(keyword_only, [[1], [2]], path).columns[:1]) == ["x"]
    assert list(table(keyword_only, [[1], [2], [3]], path, on_mismatch="reuse").columns[:1]) == ["x"]
    checkpoint = Checkpoint.load(path)
    checkpoint.save()
    Checkpoint("keyword_only", [[1], [2], [3]], [None] * 3, [False] * 3, 0, 0, path=path)
    assert list(Checkpoint.load(path).to_frame().columns[:1]) == ["x"]


def test_file_of_the_old_release_has_numbered_columns(folder: Path) -> None:
    """Release 1.0.5 kept no names and no times: the table has what there is."""
    frame = Checkpoint.load(old_file("half-finished", folder)).to_frame()
    assert list(frame.columns) == ["arg0", "arg1", *KNOWN]
    assert frame["completed"].tolist() == [True, False, True, False]
    assert frame["seconds"].isna().all()
    assert frame["started"].isna().all()


# --- values -----------------------------------------------------------------------------------------


def test_what_is_known_of_each_call_is_in_its_row(path: Path) -> None:
    """Times, worker and error are those of the call, in types that can be computed with."""

    def invert(x: int) -> float:
        return 1 / x

    frame = table(invert, [[1], [0], [4]], path)
    checkpoint = Checkpoint.load(path)
    assert frame["output"].dtype == frame["seconds"].dtype == "float64"
    assert frame["completed"].tolist() == [True, False, True]
    assert math.isnan(frame.loc[1, "output"])
    assert frame["error"].tolist() == [None, "ZeroDivisionError: division by zero", None]
    assert frame.loc[0, "seconds"] == checkpoint.seconds[0]
    assert frame.loc[2, "started"].timestamp() == pytest.approx(checkpoint.started[2], abs=1e-5)
    assert str(frame["started"].dt.tz) == "UTC"
    assert frame.loc[0, "worker"] == checkpoint.workers[0]
    assert frame["worker"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("outputs", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([1.5, None], "float64"),
        ([np.float64(1.5), np.float64(2.5)], "float64"),
        ([1, 2.5], "float64"),
        ([True, None], "boolean"),
        ([2**70, None], "object"),
        ([True, 1], "object"),
        ([None, None], "object"),
        ([[1, 2], [3, 4]], "object"),
        ([np.arange(3), np.arange(3)], "object"),
        ([np.ones((2, 2)), np.ones((2, 2))], "object"),
        ([{"a": 1}, (1, 2)], "object"),
        ([2**60 + 1, 0.5], "object"),
        ([2**60 + 1, 1j], "object"),
        ([np.longdouble(1) / 3, np.longdouble(2)], "object"),
        ([np.datetime64("1970-01-01T00:00:00.000000000001"), np.datetime64(9, "ps")], "object"),
        ([np.timedelta64(5, "Y"), np.timedelta64(5, "Y")], "object"),
        ([np.array(3.0), np.array(4.0)], "object"),
    ],
    ids=str,
)
def test_values_stay_what_they_are(path: Path, outputs: list[Any], dtype: str) -> None:
    """Plain numbers become columns of numbers, gaps included; everything else stays the object it is."""
    frame = table(lambda place: outputs[place], [[0], [1]], path)
    assert frame["output"].dtype == dtype
    for found, expected in zip(frame["output"], outputs, strict=True):
        if dtype == "object":
            assert type(found) is type(expected)
        assert np.array_equal(found, expected) if expected is not None else found is None or pd.isna(found)


def test_table_without_rows_has_its_columns(path: Path) -> None:
    """A run of no calls is a table of no rows."""
    frame = table(keyword_only, [], path)
    assert list(frame.columns) == KNOWN
    assert len(frame) == 0


def test_table_without_pandas_says_what_to_install(programs: Programs, path: Path) -> None:
    """The package works without pandas, and asking for a table says how to get one."""
    table(keyword_only, [[1]], path)
    source = """
        import sys
        sys.modules["pandas"] = None
        from thread_chunks import Checkpoint
        checkpoint = Checkpoint.load(sys.argv[1])
        try:
            checkpoint.to_frame()
        except ImportError as error:
            print(error)
    """
    assert "pip install pandas" in programs.run(source, path).stdout


# --- files ------------------------------------------------------------------------------------------


def test_exported_text_can_be_read_again(path: Path, folder: Path) -> None:
    """In CSV, numbers are exact, and objects are texts that Python reads again: large arrays are not cut short."""
    outputs = [np.arange(5000) / 7, {"a": [1, None]}, (1, 'x,\n"y"'), "plain", np.float64(0.1)]
    table(lambda place, data: outputs[place], [[place, [place]] for place in range(5)], path)
    (note,) = export(str(path), str(folder / "c.csv"))
    assert "column 'output' has cells of up to " in note
    assert "the longest of call 0: " in note
    frame = pd.read_csv(folder / "c.csv", index_col="call", dtype={"seconds": str})
    assert list(frame.columns) == ["place", "data", *KNOWN]
    assert ast.literal_eval(frame.loc[0, "output"]) == outputs[0].tolist()  # type: ignore[attr-defined]
    assert [ast.literal_eval(frame.loc[place, "output"]) for place in (1, 2, 4)] == [
        outputs[1],
        outputs[2],
        0.1,
    ]
    assert frame.loc[3, "output"] == "plain"
    assert frame["data"].map(ast.literal_eval).tolist() == [[0], [1], [2], [3], [4]]
    assert frame["seconds"].map(float).tolist() == Checkpoint.load(path).seconds
    assert pd.to_datetime(frame["started"]).notna().all()


OUTPUTS: dict[str, list[Any]] = {
    "complex numbers": [1 + 2j, np.complex64(3j)],
    "complex numbers and a gap": [1j, None],
    "long doubles": [np.longdouble(1) / 3, np.longdouble(2) / 3],
    "whole numbers that no float holds": [2**60 + 1, 0.5],
    "more digits than Python writes": [10**5000 + 1, 1],
    "decimals": [Decimal("0.1"), Fraction(1, 3)],
    "times": [np.datetime64("2024-01-01T00:00:00.000000001"), np.timedelta64(5, "ns")],
    "spans of years": [np.timedelta64(5, "Y"), np.timedelta64(6, "Y")],
    "times far away": [np.datetime64("9999999-01-01"), np.datetime64("-99-01-01")],
    "beyond the numbers": [math.inf, "a"],
    "bytes": [b"a\xff", b""],
    "frames": [pd.DataFrame({"a": range(1000)}), pd.Series(range(1000))],
    "texts that no file holds": ["\ud800", ["\ud800"]],
    "proxies": [Proxy(), [Proxy()]],
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_value_is_written_whole(kind: str, path: Path, folder: Path) -> None:
    """No kind of value ends an export, or loses a digit or its unit: each cell is the text of its value."""
    outputs = OUTPUTS[kind]
    table(lambda place: OUTPUTS[kind][place], [[0], [1]], path)
    assert export(str(path), str(folder / "c.csv")) == []
    with open(folder / "c.csv", encoding="utf-8", newline="") as file:
        cells = [row["output"] for row in csv.DictReader(file)]
    for cell, value in zip(cells, outputs, strict=True):
        assert cell == expected_cell(value)
    if importlib.util.find_spec("pyarrow"):
        export(str(path), str(folder / "c.parquet"))


def expected_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return str(value)
    return "inf" if value is math.inf else written(value).text


def test_what_no_text_holds_is_said(path: Path, folder: Path) -> None:
    """An object that only describes itself is written so, and a line says which column, which call, and what to do."""
    table(lambda place: [1, object()][place], [[0], [1]], path)
    (note,) = export(str(path), str(folder / "c.csv"))
    assert (
        "column 'output' has values that no text holds whole, in 1 of 2 calls, the first of them call 1"
        in note
    )
    assert "Checkpoint.load(FILE).to_frame()" in note


def test_export_that_fails_leaves_the_old_table(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file stays until the new one is complete, and nothing half-written is left."""
    table(operator.neg, [[1]], path)
    out = folder / "c.csv"
    out.write_text("old")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="No space"):
        export(str(path), str(out))
    assert out.read_text() == "old"
    assert sorted(path.name for path in folder.iterdir()) == ["c.csv", "c.pkl"]


def test_parquet_is_written_or_says_what_to_install(path: Path, folder: Path) -> None:
    """With an engine for Parquet the table is read back; what cannot be stored is text. Without one, there is the fix."""
    outputs = [1 + 2j, [1.5, 2.5]]
    table(lambda place, data: outputs[place], [[0, [1, 2]], [1, [3]]], path)
    out = folder / "c.parquet"
    if not any(importlib.util.find_spec(engine) for engine in ("pyarrow", "fastparquet")):
        with pytest.raises(ImportError, match="pip install pyarrow"):
            export(str(path), str(out))
        assert not out.exists()
        assert "pyarrow" not in sys.modules
        return
    (note,) = export(str(path), str(out))
    assert "column 'output'" in note
    frame = pd.read_parquet(out)
    assert list(frame.columns) == ["place", "data", *KNOWN]
    assert [list(each) for each in frame["data"]] == [[1, 2], [3]]
    assert frame["output"].tolist() == ["(1+2j)", "[1.5, 2.5]"]
