"""The module from where it is installed, by pip and by cmake --install."""

import ast
import os
import pathlib
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
    # Below /usr/local and /usr Debian's Python finds it by itself, elsewhere PYTHONPATH names the folder.
    path = ast.literal_eval(subprocess.run(["/usr/bin/python3", "-c", "import sys; print(sys.path)"], env=bare(), check=True,
                                           capture_output=True, text=True).stdout)
    assert {str(pathlib.Path(system) / folder.relative_to(prefix)) for system in ("/usr/local", "/usr")} <= set(path)
    run = subprocess.run(["/usr/bin/python3", "-B", "-c", CODE], env=bare(PYTHONPATH=str(folder)), cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(module), str(len(lab.read_pcap(TRACE)))]


def test_the_library_that_is_missing_is_named_with_what_mends_it(tmp_path):
    subprocess.run(["cp", "-r", lab.TOP / "libcap/python/ringcap", tmp_path / "ringcap"], check=True)
    environment = bare(PYTHONPATH=str(tmp_path), RINGCAP_LIBRARY=str(tmp_path / "libringcap.so.0"))
    run = subprocess.run([sys.executable, "-B", "-c", CODE], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "ringcap.errors.NotFound: cannot load libringcap" in run.stderr and "RINGCAP_LIBRARY=" in run.stderr
