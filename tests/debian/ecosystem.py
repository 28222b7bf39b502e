"""Bursts handed over to NumPy 2 (DLPack 1.0), pyarrow and pandas: nothing is copied where that is promised, and all of them read
what the columns say. Called by tests/debian/run, as Debian 12 has neither NumPy 2 nor pyarrow. Ends with status 0 if all is so."""

import sys

import numpy as np
import pandas
import ringcap

try:
    import pyarrow
except ImportError:  # trixie has none
    pyarrow = None


def expected(burst, name):
    """The column as a list, None where a frame has no such field."""
    values = getattr(burst, name)
    absent = np.ma.getmaskarray(values).reshape(len(burst), -1).any(axis=1)
    rows = np.ma.getdata(values).tolist()
    return [None if is_absent else bytes(row) if isinstance(row, list) else row for row, is_absent in zip(rows, absent)]


def look_at_arrow(burst):
    for made in pyarrow.table(burst), pyarrow.record_batch(burst):
        made.validate(full=True)
        assert made.num_rows == len(burst) and made.num_columns == len(ringcap.COLUMNS)
        for name in ringcap.COLUMNS:
            assert made.column(name).to_pylist() == expected(burst, name), name
    assert pyarrow.table(burst).to_pandas().shape == (len(burst), len(ringcap.COLUMNS))
    return pyarrow.table(burst)  # lives on until the interpreter ends


def look_at_tensors(burst):
    for name in (*ringcap.COLUMNS, "valid"):
        column = burst.column(name)
        tensor = np.from_dlpack(column)
        assert (tensor == column.values).all() and np.shares_memory(tensor, column.values), name
        assert column.values.flags.writeable or not tensor.flags.writeable, name
        assert not np.shares_memory(np.from_dlpack(column, copy=True), column.values), name
        assert np.shares_memory(np.asarray(column, copy=False), column.values), name


def look_at_pandas(burst):
    frame = burst.to_pandas()
    for name in frame.columns:
        assert frame[name].astype(object).where(frame[name].notna(), None).tolist() == expected(burst, name), name


def look_at_release(burst, cap):
    tensor = np.from_dlpack(burst.column("timestamp"))
    try:
        burst.release()
    except BufferError:
        del tensor
    else:
        raise AssertionError("released with a tensor outside")
    burst.release()
    assert cap.held == 0


def main():
    print("Python", sys.version.split()[0], "NumPy", np.__version__, "pandas", pandas.__version__,
          "pyarrow", pyarrow.__version__ if pyarrow else "not in this release: not looked at")
    with ringcap.open(sys.argv[1]) as cap:
        burst = cap.take()
        assert len(burst) > 10
        look_at_tensors(burst)
        look_at_pandas(burst)
        table = look_at_arrow(burst) if pyarrow else None
        look_at_release(burst, cap)
    return table


LEFT_OVER = main()
print("passed")
