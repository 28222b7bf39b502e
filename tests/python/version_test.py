"""Two versions of ringcap that meet: a VersionError, with the words of the command line."""

import contextlib
import os
import pathlib
import socket
import struct
import subprocess
import threading

import lab
import pytest
import ringcap

# capture/layout/layout.h, Header: the magic, then the major version, 16 bits. capture/message/message.h: the same in 32 bits.
STATE_MAJOR = 8
MESSAGE_MAJOR = 4


def command_line(*arguments):
    return subprocess.run([lab.PROGRAM, *arguments], capture_output=True, text=True).stderr


def layout_version():
    return int(subprocess.run([lab.PROGRAM, "version"], capture_output=True, text=True, check=True).stdout.split("layout ")[1].split(".")[0])


def state_of(engine):
    """Where the engine has its shared header, in its own memory: nobody else can write it."""
    with open(f"/proc/{engine.process.pid}/maps") as maps:
        return next(int(line.split("-")[0], 16) for line in maps if "ringcap-state" in line and " rw-s " in line)


def write_major(engine, major):
    with open(f"/proc/{engine.process.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(state_of(engine) + STATE_MAJOR)
        memory.write(struct.pack("<H", major))


@pytest.mark.parametrize("older", ["engine", "program"])
def test_an_engine_of_another_version_is_refused_in_the_words_of_the_command_line(older, tmp_path):
    ours = layout_version()
    theirs = ours + (-1 if older == "engine" else 1)
    with lab.engine("gen:size=64,rate=100") as engine:
        lab.attach().close()
        write_major(engine, theirs)
        with pytest.raises(ringcap.VersionError, match=f"the {older} is older") as wrong:
            lab.attach()
        assert f"version {theirs} " in wrong.value.text and "same version" in wrong.value.mend
        for words in (("stat", "lab"), ("capture", "lab", "-c", "1", "-w", str(tmp_path / "x.pcap"))):
            said = " ".join(command_line(*words).split())
            assert wrong.value.text in said and wrong.value.mend in said, words
        write_major(engine, ours)
        lab.attach().close()  # the one that was refused took nobody's place


@contextlib.contextmanager
def as_if(hello_major, answer_major):
    """Between the engine `lab` and programs: what they say is of `hello_major`, what it answers of `answer_major`."""
    path = pathlib.Path(os.environ["RINGCAP_RUN_DIR"]) / "lab.sock"
    behind = path.rename(path.with_suffix(".behind"))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as engine:
                    engine.connect(str(behind))
                    engine.send(with_major(client.recv(1 << 16), hello_major))
                    client.send(with_major(engine.recv(1 << 16), answer_major))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        behind.rename(path)


def with_major(packet, major):
    return packet[:MESSAGE_MAJOR] + struct.pack("<H", major) + packet[MESSAGE_MAJOR + 2:]


def test_an_engine_that_refuses_our_version_is_a_version_error_in_the_words_of_the_command_line(tmp_path):
    ours = layout_version()
    with lab.engine("gen:size=64,rate=100"):
        lab.attach().close()
        with as_if(hello_major=ours - 1, answer_major=ours + 1):
            with pytest.raises(ringcap.VersionError, match="this side is older") as wrong:
                ringcap.attach("lab")
            said = " ".join(command_line("capture", "lab", "-c", "1", "-w", str(tmp_path / "x.pcap")).split())
    assert f"version {ours + 1} " in wrong.value.text and wrong.value.text in said and wrong.value.mend in said
