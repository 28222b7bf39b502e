"""ringcap: captured frames as read-only NumPy views of the memory where the engine has them.

    import ringcap
    with ringcap.attach("eth0", filter="udp port 53") as cap:      # or ringcap.open("trace.pcapng")
        for burst in cap.bursts():
            print(len(burst), burst.length.sum(), burst.ip_source)

docs/python.md is the guide."""

from . import library
from .burst import (ADAPTER_TIME, BAD_CRC, BAD_LENGTH, COLUMNS, COPIED, FIRST_FRAGMENT, FRAGMENT, HASH_VALID, OUTGOING,
                    TRUNCATED, TUNNEL, VLAN, Burst)
from .capture import Capture, File, Live, Source, Stats, attach, open
from .columns import ETHERNET, HAS_VLAN, INNER, IP, IPV4, IPV6, PAYLOAD, PORTS, SEQUENCE, TCP_FLAGS, Columns
from .errors import EngineGone, Error, FilterError, NotFound, PermissionError, UsageError, VersionError
from .library import DESCRIPTOR


def version() -> str:
    """libringcap's version."""
    return library.library().ringcap_version().decode()


__all__ = ["ADAPTER_TIME", "BAD_CRC", "BAD_LENGTH", "COLUMNS", "COPIED", "Burst", "Capture", "Columns", "DESCRIPTOR", "ETHERNET",
           "EngineGone", "Error", "FIRST_FRAGMENT", "FRAGMENT", "File", "FilterError", "HASH_VALID", "HAS_VLAN", "INNER", "IP",
           "IPV4", "IPV6", "Live", "NotFound", "OUTGOING", "PAYLOAD", "PORTS", "PermissionError", "SEQUENCE", "Source", "Stats",
           "TCP_FLAGS", "TRUNCATED", "TUNNEL", "UsageError", "VLAN", "VersionError", "attach", "open", "version"]
