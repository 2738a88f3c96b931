"""A server of price tables on loopback, in the form of `genai-prices`' own address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import genai_prices.data_snapshot

__all__ = ["TABLE", "price_server"]

TABLE: list[dict[str, Any]] = [
    {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "https://api\\.openai\\.com",
        "models": [
            {
                "id": "gpt-5.1",
                "match": {"equals": "gpt-5.1"},
                "prices": {"input_mtok": 2, "output_mtok": 20},
            }
        ],
    }
]
"""gpt-5.1 alone, at other prices than it has."""


@contextmanager
def price_server(body: Any = TABLE, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that were asked for; what was fetched from it is forgotten at the end."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/data.json", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        genai_prices.data_snapshot.set_custom_snapshot(None)
