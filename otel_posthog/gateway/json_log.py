"""The log of a server: one JSON object a line on standard error, without the texts of exceptions."""

from __future__ import annotations

import logging
import sys
import time
import traceback

import orjson

__all__ = ["set_up"]


class _Lines(logging.Formatter):
    """One object for each record; an exception is its type and place, because its text may hold a prompt."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = "".join(traceback.format_tb(record.exc_info[2]))
        return orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS).decode()


def set_up() -> None:
    """Make all loggers of this process write such lines: ours and uvicorn's from INFO on, others warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in ("otel_posthog", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)
