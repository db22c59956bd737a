"""The end of a listening socket, without losing a connection that a client takes for established.

The kernel completes handshakes by itself and queues the connections; closing the socket resets
what is in the queue, and what is on its way there. So, in this order: ``stop`` lets no new
handshake begin, those under way get time to end, and ``take_queue`` accepts what they left
and closes. It matters most with ``SO_REUSEPORT``, where the kernel picks a socket when the first
packet comes, not when the handshake ends: a client that it gives to a gateway that is leaving has
done nothing wrong, and another gateway is there to take it.

``stop`` works by a filter that drops the packets that begin a handshake. Their senders take them
for lost and send again after a second (RFC 6298 section 2), and by then the socket is gone: the
kernel gives them to the next gateway, or refuses them where there is none. Yelp found that trick
for HAProxy ("True Zero Downtime HAProxy Reloads", 2015), with firewall rules and root's rights;
on the socket itself it needs neither. Since Linux 5.14 the kernel can also move handshakes and
queue to another socket of the port, and nobody waits; but that is the administrator's to switch on.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

MIGRATE: Final = Path("/proc/sys/net/ipv4/tcp_migrate_req")
"""Of the kernel's networking/ip-sysctl.rst; it holds for IPv6 too."""
SO_ATTACH_FILTER: Final = 26
"""Of asm-generic/socket.h; the socket module does not have it."""

_DROP_SYN: Final = (
    # Code, jump if true, jump if false, constant: classic BPF (kernel: filter.rst).
    (0x30, 0, 0, 13),  # load byte 13 of the TCP header: the flags (RFC 9293 section 3.1)
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # then drop the packet,
    (0x06, 0, 0, 0xFFFFFFFF),  # else pass the whole of it
)


def move() -> bool:
    """Whether handshakes and queue move to another socket of the port when one is closed."""
    try:
        return MIGRATE.read_text() == "1\n"
    except OSError:  # not Linux, or before 5.14
        return False


def stop(listening: socket.socket) -> None:
    """From now on no handshake with ``listening`` begins; where that is impossible, they do."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _DROP_SYN))
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(code))
    with suppress(OSError):  # not Linux, or a sandbox that forbids it
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def take_queue(listening: socket.socket) -> list[socket.socket]:
    """Accepts what the kernel has completed, then closes ``listening``, in the shortest time."""
    accepted = []
    listening.setblocking(False)
    while True:
        try:
            accepted.append(listening.accept()[0])
        except ConnectionAbortedError:  # that client has left; there may be others
            continue
        except OSError:  # BlockingIOError: the queue is empty; or no file descriptor is left
            break
    listening.close()
    return accepted
