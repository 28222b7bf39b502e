"""The guest's initramfs: busybox, the modules that reach the host's root, tests/vm/guest/, and settings.

Used by tests/vm/run, which makes one per boot (a few milliseconds): so nothing can be out of date.
The archive is cpio's "newc" format, which is what the kernel reads (its buffer-format.rst in
Documentation/driver-api/early-userspace).
"""

import pathlib
import shlex

# What stands between the kernel and the host's root. Everything else is loaded from there by modprobe.
MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")


def build(target, vm_dir, guest_folder, settings, arguments):
    """Writes the initramfs to `target`. settings: {shell variable: text}; arguments: the guest's command line."""
    modules_folder = kernel_modules(vm_dir)
    settings = {**settings, "modules_folder": modules_folder, "kernel_version": modules_folder.name}
    modules = modules_in_order(modules_folder)
    archive = Archive()
    for folder in ("bin", "dev", "vm"):
        archive.add(folder, 0o040755)
    archive.add("dev/console", 0o020600, device=(5, 1))
    archive.add("bin/busybox", 0o100755, (vm_dir / "root/bin/busybox").read_bytes())
    archive.add("init", 0o100755, (guest_folder / "init").read_bytes())
    archive.add("vm/session", 0o100644, (guest_folder / "session").read_bytes())
    archive.add("vm/settings", 0o100644, shell_text(settings, arguments).encode())
    archive.add("vm/modules", 0o100644, "".join(f"{path.name}\n" for path in modules).encode())
    for path in modules:
        archive.add(f"vm/{path.name}", 0o100644, path.read_bytes())
    target.write_bytes(archive.finish())


def kernel_modules(vm_dir):
    return next((vm_dir / "kernel/lib/modules").iterdir())


def modules_in_order(folder):
    """The files of MODULES and of what they need, each after what it needs."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    paths = {pathlib.PurePath(path).name.partition(".")[0].replace("-", "_"): path for path in needs}
    order = []

    def visit(path):
        for other in needs[path]:
            visit(other)
        if path not in order:
            order.append(path)

    for name in MODULES:
        visit(paths[name])
    return [folder / path for path in order]


def shell_text(settings, arguments):
    lines = [f"{name}={shlex.quote(str(value))}" for name, value in settings.items() if name != "environment"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in settings["environment"].items()]
    lines.append("set -- " + shlex.join(arguments))
    return "\n".join(lines) + "\n"


class Archive:
    """A cpio archive in newc format: a header of 13 hexadecimal numbers, name and contents each padded to 4 bytes."""

    def __init__(self):
        self.bytes = bytearray()
        self.inode = 0

    def add(self, name, mode, contents=b"", device=(0, 0)):
        self.inode += 1
        encoded = name.encode() + b"\0"
        numbers = (self.inode, mode, 0, 0, 1, 0, len(contents), 0, 0, *device, len(encoded), 0)
        self.bytes += b"070701" + b"".join(b"%08x" % number for number in numbers) + encoded
        self.pad()
        self.bytes += contents
        self.pad()

    def finish(self):
        self.add("TRAILER!!!", 0)
        return bytes(self.bytes)

    def pad(self):
        self.bytes += bytes(-len(self.bytes) % 4)
