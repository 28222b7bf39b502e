"""ringcap's side: an engine in a process of its own, with its own run directory and hugepages."""

import contextlib
import os

from benchlib.machine import Failure, Program, hugepages, scratch, wait_until

NAME = "bench"
ENGINE_CORE, CONSUMER_CORE = 0, 1
ARENA_MIB = 256


def missing(context):
    return "" if (context.tools / "ringcap").exists() else "ringcap is not built"


@contextlib.contextmanager
def engine(context, port, poll="busy", consumers=1, netns=None, more=()):
    """`ringcap up PORT`, its worker on ENGINE_CORE; its port starts when so many consumers have attached (0: at
    once). Gives the Program; consumers find the engine through its `env`."""
    argv = [context.tools / "ringcap", "up", port, "--name", NAME, "--poll", poll, "--cores", ENGINE_CORE,
            "--arena", f"{ARENA_MIB}M", "--log-level", "warning", *more]
    argv += ["--wait-consumers", consumers] if consumers else []
    with hugepages(ARENA_MIB // 2), scratch() as directory:
        env = {"RINGCAP_RUN_DIR": str(directory)}
        with Program(argv, netns=netns, env=env) as program:
            program.env = env
            wait_until(lambda: _is_up(program, directory), "the engine's socket")
            yield program


def _is_up(program, directory):
    if program.process.poll() is not None:
        raise Failure(f"the engine ended with status {program.process.returncode}:\n{program.output()}")
    return os.path.exists(directory / f"{NAME}.sock")


def consumer(context, env, seconds, *options, netns=None):
    """A consumer that never sleeps (consumer.cc)."""
    argv = [context.build / "consumer", f"--engine={NAME}", f"--core={CONSUMER_CORE}",
            f"--ms={int(seconds * 1000)}", *options]
    return Program(argv, env=env, netns=netns)
