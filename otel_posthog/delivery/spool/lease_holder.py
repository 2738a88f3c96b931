"""The holders of leases: processes, and whether they may still be alive."""

from __future__ import annotations

import os
import socket
import uuid


def name_of_holder() -> str:
    """Return a unique name for this process, with its host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def is_alive(holder: str) -> bool:
    """Whether a holder may still be at work. A process on another machine may always be.

    A wrong answer does no harm: the lease of a holder that seems alive expires, and an event that is sent
    twice has the same uuid.
    """
    host, _, rest = holder.partition(":")
    number = rest.partition(":")[0]
    if host != socket.gethostname() or not number.isdecimal() or os.name == "nt":
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
