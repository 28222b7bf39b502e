#!/usr/bin/python3
"""The guest's half of tests/vm/transparent_*_test: the host keeps its network while an engine has its NIC.

    transparent.py talk SHARE      a connection, ping, TCP both ways, DHCP, IPv6, all of it captured by tcpdump
    transparent.py faults SHARE    a VLAN on top, killed, not confirmed, guard killed, MTU, link, TAP deleted, NIC removed

Outside, 10.77.0.1 and fd77::1 answer: an echo server on port 7, iperf3, a DHCP server. The kernel's driver has the NIC
first. RINGCAP names the program, RINGCAP_VM_DRIVER the kernel's driver, RINGCAP_VM_QUEUES how many queues.
"""

import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import e1000e
from e1000e import RINGCAP, NIC, DEVICE, until

DRIVER = os.environ.get("RINGCAP_VM_DRIVER", "e1000e")
QUEUES = int(os.environ.get("RINGCAP_VM_QUEUES", "1"))
MEGABYTES = int(os.environ.get("RINGCAP_VM_MEGABYTES", "100"))
SECONDS = int(os.environ.get("RINGCAP_VM_SECONDS", "0"))  # of TCP each way; 0: as long as MEGABYTES take
PEER, PEER6 = "10.77.0.1", "fd77::1"
ECHO_PORT = 7
NAME = "wan"  # the interface's, so that a name that is not the kernel's own comes back, too
ENGINE = "eng"
BUSYBOX = "/run/ringcap-vm/busybox"


def run(*words, **options):
    return subprocess.run([str(w) for w in words], check=True, **options)


def say(text):
    print(f"[{time.monotonic():.1f}] {text}", flush=True)


# ---- the host's network ------------------------------------------------------------------------------


def interface():
    """The NIC's interface while the kernel's driver has it."""
    nets = DEVICE / "net"
    return next((p.name for p in nets.iterdir()), None) if nets.exists() else None


def configure():
    """The kernel has the NIC, with a name, addresses, routes and a group of its own."""
    run("modprobe", DRIVER)
    run("modprobe", "-a", "tun", "vfio-pci", "8021q")
    first = until(interface, "the kernel's interface")
    run("ip", "link", "set", first, "name", NAME)
    run("ip", "link", "set", NAME, "up")
    run("ip", "address", "add", "10.77.0.2/24", "dev", NAME)
    run("ip", "address", "add", "fd77::2/64", "dev", NAME, "nodad")
    run("ip", "route", "add", "default", "via", PEER, "metric", "77")
    run("ip", "route", "add", "10.99.0.0/16", "via", PEER, "src", "10.77.0.2", "table", "42")
    run("ip", "maddress", "add", "01:00:5e:01:02:03", "dev", NAME)
    until(lambda: reachable(PEER), "the peer answers")
    until(lambda: "tentative" not in run("ip", "-6", "address", "show", "dev", NAME, capture_output=True, text=True).stdout,
          "the kernel has looked for duplicates of its IPv6 addresses")


def configuration():
    """What must be the same before, during and after."""
    addresses = json.loads(run("ip", "-json", "address", "show", "dev", NAME, capture_output=True).stdout)[0]
    routes = [json.loads(run("ip", "-json", *family, "route", "show", "table", "all", "dev", NAME, capture_output=True).stdout or "[]")
              for family in (("-4",), ("-6",))]
    kept = ("dst", "gateway", "prefsrc", "table", "metric", "type")
    return {"mac": addresses["address"], "mtu": addresses["mtu"],
            "addresses": sorted((a["local"], a["prefixlen"]) for a in addresses["addr_info"]),
            "routes": sorted(json.dumps({k: r[k] for k in kept if k in r}) for family in routes for r in family),
            "group": "01:00:5e:01:02:03" in run("ip", "maddress", "show", "dev", NAME, capture_output=True, text=True).stdout}


def reachable(address):
    return subprocess.run(["ping", "-c", "1", "-W", "1", address], stdout=subprocess.DEVNULL, check=False).returncode == 0


def same_configuration(wanted, when):
    try:
        until(lambda: interface_exists() and configuration() == wanted, f"everything is as before {when}", 60)
    except AssertionError:
        print(json.dumps([wanted, configuration() if interface_exists() else None], indent=1), file=sys.stderr)
        raise


def interface_exists():
    return pathlib.Path(f"/sys/class/net/{NAME}").exists()


class Talk:
    """A TCP connection on which a numbered line goes out and comes back, again and again."""

    def __init__(self):
        # Longer than any take-over and the retransmission after it, on a machine that others use, too.
        self.socket = socket.create_connection((PEER, ECHO_PORT), timeout=120)
        self.file = self.socket.makefile("rwb")
        self.port = self.socket.getsockname()[1]
        self.lines, self.failure, self.over = 0, None, threading.Event()
        self.thread = threading.Thread(target=self._talk, daemon=True)
        self.thread.start()

    def _talk(self):
        try:
            while not self.over.wait(0.02):
                line = f"line {self.lines}\n".encode()
                self.file.write(line)
                self.file.flush()
                answer = self.file.readline()
                assert answer == line, (line, answer)
                self.lines += 1
        except (OSError, AssertionError) as failure:
            self.failure = failure

    def goes_on(self, what, seconds=120):
        """The connection says more than it had said when this was called."""
        before = self.lines
        until(lambda: self.failure or self.lines > before + 3, f"the connection goes on {what}", seconds)
        assert self.failure is None, self.failure
        say(f"the connection goes on {what}")

    def end(self):
        self.over.set()
        self.thread.join(40)
        assert self.failure is None, self.failure


# ---- the engine --------------------------------------------------------------------------------------


class Engine:
    def __init__(self, *more, mode="both", may_end=False):
        self.log = open("/tmp/engine.log", "ab+")
        arena = [] if "--arena" in more else ["--arena", f"{64 * (QUEUES + 1) // 2}M"]
        words = ["up", f"vfio:{NIC},queues={QUEUES}", "--name", ENGINE, "--transparent", mode, *arena, *more]
        self.process = subprocess.Popen([RINGCAP, *words], stderr=self.log)
        until(lambda: self.stat(fails=True) or self.process.poll() is not None, "the engine answers", 100)
        assert may_end or self.process.poll() is None, f"the engine ended with status {self.process.returncode}: {self.said()}"

    def stat(self, fails=False):
        result = subprocess.run([RINGCAP, "stat", ENGINE, "--json"], stdout=subprocess.PIPE, check=False,
                                stderr=subprocess.DEVNULL if fails else None)
        return json.loads(result.stdout) if result.stdout else None

    def said(self):
        return engine_log()

    def end(self):
        self.process.terminate()
        status = self.process.wait(90)
        assert status in (0, 3), f"the engine ended with status {status}: {self.said()}"

    def forwarder(self, to_kernel):
        return self.stat()["forwarders"][0 if to_kernel else 1]

    def balances(self):
        until(lambda: self.stat()["verdict"] == "balanced", "the ledger balances", 60)


def engine_log():
    """What all engines have said so far."""
    log = pathlib.Path("/tmp/engine.log")
    return log.read_text() if log.exists() else ""


def kernels_again():
    """The kernel's driver has the NIC, under its name."""
    until(lambda: interface() == NAME, "the NIC is the kernel's again", 100)


# ---- talk --------------------------------------------------------------------------------------------


def talk(_share):
    configure()
    before = configuration()
    connection = Talk()
    connection.goes_on("before")
    run(RINGCAP, "bind", "--force", NIC)
    engine = Engine("--adopt")
    same_configuration(before, "on the TAP")
    connection.goes_on("through the engine")

    tcpdump = subprocess.Popen([RINGCAP, "run", "--", "tcpdump", "-Z", "root", "-B", "8192", "-i", f"ringcap:{ENGINE}", "-w",
                                "/tmp/seen.pcap", "not port 5201"], stderr=subprocess.PIPE, text=True)
    until(lambda: os.path.exists("/tmp/seen.pcap"), "tcpdump listens")
    run("ping", "-c", "3", "-i", "0.2", PEER, stdout=subprocess.DEVNULL)
    run("ip", "-6", "neigh", "flush", "dev", NAME)
    run("ping", "-6", "-c", "3", "-i", "0.2", PEER6, stdout=subprocess.DEVNULL)
    dhcp()
    for direction in ((), ("--reverse",)):
        iperf(*direction)
    connection.goes_on("after TCP both ways")
    time.sleep(0.3)
    tcpdump.send_signal(signal.SIGINT)
    assert tcpdump.wait(60) == 0
    said = tcpdump.stderr.read()
    assert "\n0 packets dropped by kernel" in said, said
    captured(connection.port)

    engine.balances()
    for to_kernel in (True, False):
        forwarder = engine.forwarder(to_kernel)
        assert forwarder["dropped"] == 0 and forwarder["refused"] == 0, forwarder
    engine.end()
    kernels_again()
    same_configuration(before, "after the engine")
    connection.goes_on("when the kernel has its NIC back")
    connection.end()


def dhcp():
    lease = subprocess.run([BUSYBOX, "udhcpc", "-i", NAME, "-n", "-q", "-f", "-t", "5", "-s", "/bin/true"], check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert lease.returncode == 0 and "10.77.0.1" in lease.stdout, lease.stdout
    say("DHCP gives a lease")


def iperf(*more):
    much = ("-t", SECONDS) if SECONDS else ("-n", f"{MEGABYTES}M")
    result = run("iperf3", "--json", "-c", PEER, *much, *more, capture_output=True)
    sent, received = (json.loads(result.stdout)["end"][f"sum_{which}"] for which in ("sent", "received"))
    # The receiver stops counting when the sender has given its last bytes away: what is on its way then is not in it.
    assert sent["bytes"] >= (0 if SECONDS else MEGABYTES * 2**20) and received["bytes"] >= 0.7 * sent["bytes"], (sent, received)
    say(f"TCP {' '.join(more)}: {received['bits_per_second'] / 1e6:.0f} Mbit/s")


def captured(port):
    """What tcpdump recorded of the connection has no gap, both ways, and no frame is there twice."""
    ways = {True: [], False: []}  # from the host, to the host
    kinds, whole = {"icmp": 0, "icmp6": 0, "dhcp": 0}, []
    for data in frames_of("/tmp/seen.pcap"):
        kind = struct.unpack_from(">H", data, 12)[0]
        if kind == 0x86dd and data[20] == 58:
            kinds["icmp6"] += 1
        if kind != 0x0800:
            continue
        header = 14 + 4 * (data[14] & 15)
        if data[23] == 1:
            kinds["icmp"] += 1
        if data[23] == 17 and struct.unpack_from(">HH", data, header) in ((68, 67), (67, 68)):
            kinds["dhcp"] += 1
        if data[23] != 6:
            continue
        source, destination, sequence = struct.unpack_from(">HHI", data, header)
        if (source, destination) not in ((port, ECHO_PORT), (ECHO_PORT, port)):
            continue
        length = struct.unpack_from(">H", data, 16)[0] - (header - 14) - 4 * (data[header + 12] >> 4)
        ways[source == port].append((sequence, length))
        whole.append(data)
        assert checksum_right(data, header), "a TCP checksum is wrong"
    assert len(set(whole)) == len(whole), "a frame was recorded twice"
    for outgoing, segments in ways.items():
        spans = sorted(s for s in segments if s[1] > 0)
        assert len(spans) > 20, f"only {len(spans)} segments recorded {'from' if outgoing else 'to'} the host"
        expected = spans[0][0]
        for sequence, length in spans:
            assert sequence <= expected, f"a gap of {sequence - expected} bytes"
            expected = max(expected, sequence + length)
    assert kinds["icmp"] >= 6 and kinds["icmp6"] >= 6 and kinds["dhcp"] >= 2, kinds
    say(f"recorded without a gap: {len(whole)} frames of the connection, and {kinds}")


def frames_of(path):
    data, at = pathlib.Path(path).read_bytes(), 24
    while at + 16 <= len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16:at + 16 + length]
        at += 16 + length


def checksum_right(data, header):
    end = 14 + struct.unpack_from(">H", data, 16)[0]
    segment = data[26:34] + struct.pack(">BBH", 0, 6, end - header) + data[header:end]
    segment += b"\0" * (len(segment) % 2)
    total = sum(struct.unpack(f">{len(segment) // 2}H", segment))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total == 0xffff


# ---- faults ------------------------------------------------------------------------------------------


def faults(share):
    configure()
    before = configuration()
    connection = Talk()
    vlan_on_top(before)
    killed(connection, before)
    not_confirmed(connection, before)
    engine = Engine("--adopt")
    same_configuration(before, "on the TAP")
    mtu_changed(engine, connection)
    link_down_and_up(engine, connection, share)
    engine.balances()
    tap_deleted(engine, before)
    connection.goes_on("after the TAP was deleted")
    connection.end()
    nic_removed()


def vlan_on_top(before):
    """The kernel would delete it with the NIC's interface, and nobody would make it again: refused by its name."""
    run("ip", "link", "add", "link", NAME, "name", "lan5", "type", "vlan", "id", "5")
    refused = subprocess.run([RINGCAP, "up", f"vfio:{NIC}", "--transparent", "both", "--adopt"], check=False, stderr=subprocess.PIPE, text=True)
    assert refused.returncode == 2 and "ip link delete lan5" in refused.stderr, refused
    run("ip", "link", "delete", "lan5")
    assert interface() == NAME and configuration() == before


def killed(connection, before):
    engine = Engine("--adopt")  # binds the NIC itself
    connection.goes_on("through the first engine")
    engine.process.kill()
    engine.process.wait()
    kernels_again()
    same_configuration(before, "after SIGKILL")
    connection.goes_on("when the engine was killed")
    engine = Engine("--adopt")
    same_configuration(before, "on the next TAP")
    connection.goes_on("through the next engine")
    engine.end()
    kernels_again()
    same_configuration(before, "after the next engine")


def not_confirmed(connection, before):
    """The time counts from the engine's start: longer where the engine was not up before it was over."""
    for seconds in (4, 8, 16, 32):
        said = engine_log()
        engine = Engine("--adopt", "--confirm", str(seconds), may_end=True)
        engine.process.wait(90)
        kernels_again()
        if "has what the NIC's interface had" in engine_log()[len(said):]:
            break
        say(f"no engine within {seconds} s")
    else:
        raise AssertionError("no engine came up before it was to be confirmed")
    same_configuration(before, "as nobody confirmed")
    connection.goes_on("as nobody confirmed")
    engine = Engine("--adopt", "--confirm", "300")  # that it would end AdoptGuard's tests show, without a machine
    run(RINGCAP, "bind", "--keep", NIC, stdout=subprocess.DEVNULL)
    connection.goes_on("when it was confirmed")
    guard_killed(engine, before)
    connection.goes_on("when the guard was killed, too")


def guard_killed(engine, before):
    """Engine and guard: the engine says that nobody gives the NIC back, and by which command it goes back."""
    def guards():
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if "(ringcap-guard) S" in (process / "stat").read_text():  # not one that has ended and waits to be reaped
                    found.append(int(process.name))
            except OSError:  # ended just now
                pass
        return found
    until(lambda: len(guards()) == 1, "the guards of earlier engines have ended")
    os.kill(guards()[0], signal.SIGKILL)
    until(lambda: f"ringcap unbind {NIC}" in engine.said(), "the engine says that its guard is gone")
    engine.process.kill()
    engine.process.wait()
    run(RINGCAP, "unbind", NIC, stdout=subprocess.DEVNULL)
    same_configuration(before, "when engine and guard were killed")


def mtu_changed(engine, connection):
    """Longer frames than the NIC carries are refused and counted; shorter ones still pass."""
    connection.goes_on("through an engine whose TAP's MTU is to change")
    run("ip", "link", "set", NAME, "mtu", "4000")

    def refused():
        big = subprocess.run(["ping", "-c", "1", "-W", "1", "-M", "do", "-s", "3000", PEER], stdout=subprocess.DEVNULL, check=False)
        assert big.returncode != 0
        return engine.forwarder(False)["refused"] > 0
    until(refused, "a frame that is too long is refused")
    run("ip", "link", "set", NAME, "mtu", "1500")
    connection.goes_on("after the MTU was changed")


def link_down_and_up(engine, connection, share):
    run("ip", "link", "set", NAME, "down")
    until(lambda: not reachable(PEER), "nothing passes")
    run("ip", "link", "set", NAME, "up")
    run("ip", "address", "replace", "fd77::2/64", "dev", NAME, "nodad")  # the kernel forgets those of IPv6
    run("ip", "route", "replace", "default", "via", PEER, "metric", "77")
    connection.goes_on("after the TAP was down and up")
    pathlib.Path(share, "link-down").touch()  # now the NIC's
    carrier = pathlib.Path(f"/sys/class/net/{NAME}/carrier")
    until(lambda: carrier.read_text().strip() == "0", "the TAP has no carrier as the NIC has none")
    pathlib.Path(share, "link-up").touch()
    until(lambda: carrier.read_text().strip() == "1", "the TAP has a carrier again")
    connection.goes_on("after the NIC's link was down and up")


def tap_deleted(engine, before):
    """The host's network is on it: the engine ends, so that it goes back."""
    run("ip", "link", "delete", NAME)
    engine.process.wait(90)
    kernels_again()
    same_configuration(before, "after the TAP was deleted")


def nic_removed():
    """While somebody sends: no hang, and no sum that does not balance."""
    engine = Engine("--adopt", "--send-group", "root")
    until(lambda: engine.stat()["ports"][0]["link"]["up"], "the link is up")
    frame = b"\xff" * 12 + b"\x88\xb5" + b"x" * 46
    pathlib.Path("/tmp/one.pcap").write_bytes(
        struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
    sender = subprocess.Popen([RINGCAP, "send", ENGINE, "/tmp/one.pcap", "--loop", "0", "--rate", "200"], stdout=subprocess.PIPE, text=True)
    until(lambda: any(line["sent"] > 10 for line in engine.stat()["senders"]), "frames of a sender leave")
    (DEVICE / "remove").write_text("1")
    until(lambda: not engine.stat()["ports"][0]["link"].get("present", True) or "is gone" in engine.said(), "the engine says that it is gone")
    assert interface_exists(), "the TAP stays while the engine runs"
    sender.send_signal(signal.SIGINT)
    assert sender.wait(60) in (0, 3, 4) and "frames sent to" in sender.stdout.read()
    until(lambda: engine.stat()["verdict"] != "unbalanced", "no sum is wrong")
    engine.end()
    say("removed: said, and no hang")


if __name__ == "__main__":
    os.environ["RINGCAP_RUN_DIR"] = "/run/ringcap"
    pathlib.Path("/run/ringcap").mkdir(exist_ok=True)
    try:
        {"talk": talk, "faults": faults}[sys.argv[1]](sys.argv[2])
    except BaseException:
        if os.path.exists("/tmp/engine.log"):
            print(pathlib.Path("/tmp/engine.log").read_text(), file=sys.stderr)
        subprocess.run("dmesg | tail -n 30; ip address; ip route; tail -n 5 /var/log/syslog", shell=True, check=False, stdout=sys.stderr)
        raise
    print("passed")
