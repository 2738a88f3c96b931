"""The time that instrumentation adds to a call on the caller's own thread, side by side in one run.

    pip install --group bench   (or the names in pyproject.toml, group bench)
    python -m benchmarks.instrument

Every row patches the SDK for itself, so each has a process of its own; they take turns round by round, so
that a slow moment of the machine hits all of them. Each calls a server on loopback through the real `openai`
client, with content captured and spans that are recorded and dropped. The figure is CPU time of the calling
thread above that of the bare client in the same round; given is the median of the rounds.
"""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import main_or_help

ROUNDS, CALLS, STREAMS, CHUNKS = 15, 100, 6, 200
MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant in a chat product. " * 4},
    {"role": "user", "content": "Tell me three things about cats that nobody knows. " * 8},
]
USAGE = {
    "prompt_tokens": 140,
    "completion_tokens": 60,
    "total_tokens": 200,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-5.1-2025-11-13", "service_tier": "default"}
ANSWER = {
    **HEAD,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Cats purr. " * 30, "refusal": None},
        }
    ],
    "usage": USAGE,
}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}


EVENTS = [
    _chunk({"role": "assistant", "content": ""}),
    *(_chunk({"content": "purr "}) for _ in range(CHUNKS)),
    _chunk({}, "stop"),
    {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE},
]


# --- the rows: each patches the SDK and gives the client to call ---------------------------------


def _provider() -> Any:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor())
    trace.set_tracer_provider(provider)
    return provider


def _plain(url: str) -> Any:
    from openai import OpenAI

    return OpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0)


def ours(url: str) -> Any:
    from instrumentors import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=_provider())
    return _plain(url)


def ours_completing(url: str) -> Any:
    client = ours(url)
    _instrumented("opentelemetry.instrumentation.openai", "OpenAIInstrumentor")
    return client


def posthog_wrapper(url: str) -> Any:
    from posthog import Posthog
    from posthog.ai.openai import OpenAI

    client = Posthog("phc_x", host=url)
    return OpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0, posthog_client=client)


def langfuse_wrapper(url: str) -> Any:
    importlib.import_module("langfuse").Langfuse(public_key="pk", secret_key="sk", base_url=url)
    wrapped = importlib.import_module("langfuse.openai")
    return wrapped.OpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0)


def _instrumented(module: str, name: str, **options: Any) -> None:
    from opentelemetry import trace

    instrumentor = getattr(importlib.import_module(module), name)()
    instrumentor.instrument(tracer_provider=trace.get_tracer_provider(), **options)


def neighbour(module: str, name: str) -> Callable[[str], Any]:
    """A row for an instrumentor of somebody else."""

    def row(url: str) -> Any:
        _provider()
        _instrumented(module, name)
        return _plain(url)

    return row


ROWS: dict[str, Callable[[str], Any]] = {
    "bare client": _plain,
    "otel-posthog": ours,
    "otel-posthog, completing Traceloop's spans": ours_completing,
    "posthog.ai.openai": posthog_wrapper,
    "langfuse.openai": langfuse_wrapper,
    "OpenInference": neighbour("openinference.instrumentation.openai", "OpenAIInstrumentor"),
    "genai-openai (official)": neighbour("opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
    "Traceloop": neighbour("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
}
BARE, REFERENCE = "bare client", "posthog.ai.openai"


# --- one row's process ---------------------------------------------------------------------------


def _call(client: Any) -> None:
    client.chat.completions.create(model="gpt-5.1", messages=MESSAGES, temperature=0.5)


def _stream(client: Any) -> None:
    options = {"include_usage": True}
    for _ in client.chat.completions.create(
        model="gpt-5.1", messages=MESSAGES, stream=True, stream_options=options
    ):
        pass


def _measured(what: Callable[[Any], None], client: Any, times: int) -> float:
    before = time.thread_time()
    for _ in range(times):
        what(client)
    return (time.thread_time() - before) / times * 1e6


def work(row: str, url: str, pipe: Connection) -> None:
    """Instrument, then measure a round each time the parent asks."""
    logging.disable()
    try:
        client = ROWS[row](url)
        _measured(_call, client, 20)
        _measured(_stream, client, 1)
    except Exception as error:  # noqa: BLE001  # a neighbour that is not there, or does not work, has no figure
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0][:60])
        return
    pipe.send(None)
    while pipe.recv():
        pipe.send((_measured(_call, client, CALLS), _measured(_stream, client, STREAMS)))
    os._exit(0)  # no neighbour's flush at the end


# --- the server ----------------------------------------------------------------------------------


def _answers() -> tuple[bytes, bytes]:
    body = json.dumps(ANSWER).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    events = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in EVENTS) + b"data: [DONE]\n\n"
    return head % (b"application/json", len(body)) + body, head % (b"text/event-stream", len(events)) + events


def _serve_connection(connection: socket.socket, whole: bytes, streamed: bytes) -> None:
    with connection, connection.makefile("rb") as requests:
        while line := requests.readline():
            length = 0
            while (header := requests.readline()) not in {b"\r\n", b""}:
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = requests.read(length)
            chat = b"/chat/completions" in line
            connection.sendall(streamed if chat and b'"stream":true' in body.replace(b" ", b"") else whole)


def serve(pipe: Connection) -> None:
    """Answer every request at once, whatever it asks; traces and events of neighbours, too."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    pipe.send(f"http://127.0.0.1:{listening.getsockname()[1]}")
    whole, streamed = _answers()
    while True:
        connection, _ = listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve_connection, args=(connection, whole, streamed), daemon=True).start()


def main() -> None:
    spawn = multiprocessing.get_context("spawn")
    mine, its = spawn.Pipe()
    spawn.Process(target=serve, args=(its,), daemon=True).start()
    url = mine.recv()
    pipes: dict[str, Connection] = {}
    missing: dict[str, str] = {}
    for row in ROWS:
        pipe, its = spawn.Pipe()
        spawn.Process(target=work, args=(row, url, its), daemon=True).start()
        if (reason := pipe.recv()) is None:
            pipes[row] = pipe
        else:
            missing[row] = reason
    figures: dict[str, list[tuple[float, float]]] = {row: [] for row in pipes}
    for number in range(ROUNDS):
        for row, pipe in pipes.items():
            pipe.send(True)
            figures[row].append(pipe.recv())
        print(f"\rround {number + 1} of {ROUNDS}", end="", file=sys.stderr)
    print(file=sys.stderr)
    added = {
        row: [
            statistics.median(one[kind] - bare[kind] for one, bare in zip(times, figures[BARE], strict=True))
            for kind in (0, 1)
        ]
        for row, times in figures.items()
    }
    reference = added.get(REFERENCE, [float("nan")])[0]
    print(f"{'added on the calling thread':44}{'us/call':>9}{'ratio':>8}{'us/chunk':>10}")
    for row, (call, stream) in added.items():
        if row != BARE:
            print(f"{row:44}{call:9.1f}{call / reference:8.2f}{stream / len(EVENTS):10.2f}")
    for pipe in pipes.values():
        pipe.send(False)
    for row, reason in missing.items():
        print(f"{row:44}  not measured: {reason}")


if __name__ == "__main__":
    main_or_help(main, __doc__)
