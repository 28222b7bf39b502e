"""The module from where it is installed, by pip and by cmake --install."""

import ast
import os
import subprocess
import sys

import lab

TRACE = lab.TOP / "tests/data/frames/plain.pcap"
BUILD = os.environ.get("RINGCAP_BUILD", lab.TOP / "build/release")
CODE = f"import ringcap; c = ringcap.open({str(TRACE)!r}, filter='ip or ip6'); print(ringcap.__file__, sum(map(len, c)))"


def bare(**more):
    """The environment without what the tests say about where the module and the library are."""
    hidden = "PYTHONPATH", "RINGCAP_LIBRARY", "LD_LIBRARY_PATH"
    return {name: value for name, value in os.environ.items() if name not in hidden} | more


def test_it_installs_offline_with_pip_and_runs(tmp_path):
    venv, source = tmp_path / "venv", tmp_path / "source"
    subprocess.run(["cp", "-r", lab.TOP / "libcap/python", source], check=True)
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--system-site-packages", venv], check=True)
    subprocess.run([venv / "bin/pip", "install", "-q", "--no-index", "--no-build-isolation", source], check=True)
    library = {"RINGCAP_LIBRARY": os.environ["RINGCAP_LIBRARY"]}
    run = subprocess.run([venv / "bin/python", "-c", CODE], env=bare(**library), cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(venv)) and run.stdout.split()[1] == str(len(lab.read_pcap(TRACE)))


def test_it_runs_from_where_cmake_installs_it(tmp_path):
    prefix = tmp_path / "usr"
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
    [module] = prefix.rglob("ringcap/__init__.py")
    folder = module.parent.parent
    assert not list(prefix.rglob("__pycache__"))
    # Below /usr/local Debian's Python finds it by itself, elsewhere PYTHONPATH names the folder.
    path = ast.literal_eval(subprocess.run(["/usr/bin/python3", "-c", "import sys; print(sys.path)"], env=bare(), check=True,
                                           capture_output=True, text=True).stdout)
    assert str("/usr/local" / folder.relative_to(prefix)) in path
    run = subprocess.run(["/usr/bin/python3", "-B", "-c", CODE], env=bare(PYTHONPATH=str(folder)), cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(module), str(len(lab.read_pcap(TRACE)))]


def test_the_library_that_is_missing_is_named_with_what_mends_it(tmp_path):
    subprocess.run(["cp", "-r", lab.TOP / "libcap/python/ringcap", tmp_path / "ringcap"], check=True)
    environment = bare(PYTHONPATH=str(tmp_path), RINGCAP_LIBRARY=str(tmp_path / "libringcap.so.0"))
    run = subprocess.run([sys.executable, "-B", "-c", CODE], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "ringcap.errors.NotFound: cannot load libringcap" in run.stderr and "RINGCAP_LIBRARY=" in run.stderr


# https://numpy.org/doc/stable/numpy_2_0_migration_guide.html, and what was only deprecated then.
REMOVED = set("""add_docstring add_newdoc add_newdoc_ufunc alltrue asfarray byte_bounds cast cfloat clongfloat compat complex_ core
    cumproduct DataSource deprecate deprecate_with_doc disp fastCopyAndTranspose find_common_type float_ geterrobj get_array_wrap in1d
    INF Inf Infinity infty issctype issubclass_ issubsctype longcomplex longfloat lookfor mat maximum_sctype msort NaN nbytes NINF NZERO
    obj2sctype PINF product PZERO recfromcsv recfromtxt round_ row_stack safe_eval sctype2char sctypes seterrobj set_numeric_ops
    set_string_function singlecomplex sometrue source string_ tracemalloc_domain trapz unicode_ who
    bool8 int0 uint0 object0 str0 bytes0 void0 bool int float complex object str""".split())
REMOVED_METHODS = {"itemset", "newbyteorder", "ptp"}


def test_nothing_is_used_that_numpy_2_removed():
    used = set()
    for path in (lab.TOP / "libcap/python/ringcap").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in REMOVED_METHODS, (path, node.lineno)
                if isinstance(node.value, ast.Name) and node.value.id == "np":
                    used.add(node.attr)
            # copy=False, which was "only if needed", is "never" there.
            if isinstance(node, ast.Call) and any(word.arg == "copy" for word in node.keywords):
                assert ast.unparse(node.func) not in ("np.array", "numpy.array"), (path, node.lineno)
    assert "frombuffer" in used and not used & REMOVED


def test_type_hints_are_whole_and_reach_programs(tmp_path):
    """mypy finds nothing in the module, and in a program that uses it what is wrong there, and no more."""
    program = tmp_path / "program.py"
    program.write_text("import ringcap\n"
                       "with ringcap.open('x') as cap:\n"
                       "    for burst in cap.bursts(max_frames=4096, max_wait=0.01):\n"
                       "        print(burst.timestamp.sum(), burst.frame(0)[2:], burst.keep().ip_source.mask, cap.stats.dropped + 1)\n"
                       "        burst.lenght\n")
    run = subprocess.run(["/usr/bin/mypy", "--python-executable", "/usr/bin/python3", "--cache-dir", tmp_path / "cache",
                          lab.TOP / "libcap/python/ringcap", program], capture_output=True, text=True)
    wrong = [line for line in run.stdout.splitlines() if ": error:" in line]
    assert len(wrong) == 1 and "program.py:5" in wrong[0] and '"Burst" has no attribute "lenght"' in wrong[0], run.stdout + run.stderr
