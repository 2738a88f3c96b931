"""Who holds an entry of a spool, and whether it still can."""

from __future__ import annotations

import os
import socket
import uuid


def name_of_holder() -> str:
    """Return a name for this process that no other has, and that tells where it runs."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def is_alive(holder: str) -> bool:
    """Return whether a holder may still be at work: on another machine nobody knows, so it may.

    A mistake does no harm: a lease runs out for those who are thought to live, and what is sent twice has the
    same uuid.
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
