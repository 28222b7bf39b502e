"""The guide's code runs; other libraries take what we give."""

import ctypes
import re
import subprocess
import sys

import dpkt
import lab
import numpy as np
import ringcap
from ringcap import arrow

TRACE = lab.TOP / "tests/data/frames/plain.pcap"


def test_the_code_blocks_of_the_guide_run(capsys):
    names = {"TRACE": str(TRACE)}
    blocks = re.findall(r"```python\n(.*?)```", (lab.TOP / "docs/python.md").read_text(), re.S)
    assert len(blocks) >= 7
    for block in blocks:
        if "attach(\"eth0\"" in block:
            with lab.engine(f"pcap:{TRACE},speed=max", "--wait-consumers", "1", name="eth0"):
                exec(block, names)
        else:
            with lab.run_dir():
                exec(block, names)
    assert "nobody" in capsys.readouterr().out


def test_dpkt_and_scapy_take_frames():
    from scapy.layers.l2 import Ether
    with ringcap.open(TRACE) as cap:
        burst = cap.take()
        assert dpkt.ethernet.Ethernet(burst.frame(0)).data.sum != 0
        assert Ether(bytes(burst.frame(0))).src == "02:00:00:00:00:0a"


get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))


def test_arrow_capsules_say_what_the_columns_say():
    before = len(arrow._alive)
    with ringcap.open(TRACE) as cap:
        burst = cap.take()
        schema_capsule, array_capsule = burst.__arrow_c_array__()
        schema = ctypes.cast(get(schema_capsule, b"arrow_schema"), ctypes.POINTER(arrow.Schema)).contents
        array = ctypes.cast(get(array_capsule, b"arrow_array"), ctypes.POINTER(arrow.Array)).contents
        assert schema.format == b"+s" and array.length == len(burst)
        names = [schema.children[i].contents.name.decode() for i in range(schema.n_children)]
        assert tuple(names) == ringcap.COLUMNS
        at = names.index("ip_source")
        child = array.children[at].contents
        assert schema.children[at].contents.format == b"I" and child.null_count == np.ma.count_masked(burst.ip_source) > 0
        values = np.ctypeslib.as_array(ctypes.cast(child.buffers[1], ctypes.POINTER(ctypes.c_uint32)), (len(burst),))
        bits = np.ctypeslib.as_array(ctypes.cast(child.buffers[0], ctypes.POINTER(ctypes.c_uint8)), ((len(burst) + 7) // 8,))
        there = np.unpackbits(bits, bitorder="little")[:len(burst)].astype(bool)
        assert (there == ~burst.ip_source.mask).all() and (values[there] == burst.ip_source.compressed()).all()
        del schema_capsule, array_capsule, schema, array, child, values
    assert len(arrow._alive) == before


def test_an_arrow_stream_gives_one_batch_and_ends():
    before = len(arrow._alive)
    with ringcap.open(TRACE) as cap:
        burst = cap.take()
        capsule = burst.__arrow_c_stream__()
        pointer = ctypes.cast(get(capsule, b"arrow_array_stream"), ctypes.POINTER(arrow.Stream))
        stream, schema, array = pointer.contents, arrow.Schema(), arrow.Array()
        assert stream.get_schema(pointer, ctypes.byref(schema)) == 0 and schema.n_children == len(ringcap.COLUMNS)
        assert stream.get_next(pointer, ctypes.byref(array)) == 0 and array.length == len(burst)
        schema.release(ctypes.byref(schema))
        array.release(ctypes.byref(array))
        assert stream.get_next(pointer, ctypes.byref(array)) == 0 and not array.release
        del capsule, stream, pointer
    assert len(arrow._alive) == before


def test_to_pandas_has_the_columns_and_knows_what_is_missing():
    with ringcap.open(TRACE) as cap:
        burst = cap.take()
        table = burst.to_pandas()
        assert len(table) == len(burst) and (table["length"] == burst.length).all()
        assert table["ip_source"].isna().sum() == np.ma.count_masked(burst.ip_source) > 0


def test_the_demonstration_shows_top_talkers_and_draws(tmp_path):
    picture = tmp_path / "picture.png"
    run = subprocess.run([sys.executable, "-m", "ringcap", "-r", str(TRACE), "--plot", str(picture)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "192.168.0.2" in run.stdout and "2001:db8::1" in run.stdout and "TCP" in run.stdout
    assert picture.read_bytes()[:4] == b"\x89PNG"
    run = subprocess.run([sys.executable, "-m", "ringcap", "-r", "/nowhere"], capture_output=True, text=True)
    assert run.returncode == 1 and "there is no file /nowhere" in run.stderr


def test_the_demonstration_says_at_once_that_matplotlib_is_missing_and_later_that_it_cannot_write(tmp_path):
    code = f"""import runpy, sys
sys.modules["matplotlib"] = None
sys.argv = ["ringcap", "-r", {str(TRACE)!r}, "--plot", "picture.png"]
runpy.run_module("ringcap", run_name="__main__")"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "") and "--plot needs matplotlib" in run.stderr and "apt-get install" in run.stderr
    picture = tmp_path / "nowhere/picture.png"
    run = subprocess.run([sys.executable, "-m", "ringcap", "-r", str(TRACE), "--plot", picture], capture_output=True, text=True)
    assert run.returncode == 1 and "192.168.0.2" in run.stdout and f"cannot write {picture}: No such file" in run.stderr


def test_the_demonstration_watches_an_engine():
    with lab.engine("gen:size=64,count=3000,flows=10,full=wait", "--wait-consumers", "1", name="eth0"):
        lab.wait_until(lambda: subprocess.run([lab.PROGRAM, "stat", "eth0"], capture_output=True).returncode == 0, "the engine")
        run = subprocess.run([sys.executable, "-m", "ringcap", "eth0", "udp"], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith("3,000 frames, 192,000 bytes, 0 lost")
        assert "UDP" in run.stdout and "100.0%" in run.stdout
