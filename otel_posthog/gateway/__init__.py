"""The gateway: OTLP comes in over HTTP, gRPC or Kafka, and PostHog events go out.

One module a concern, from the socket inwards; no module imports one that stands above it:

- `server`: the process: sockets, worker processes, signals.
- `worker`: one worker process: its parts put together, and its shutdown.
- `app` (OTLP/HTTP, health checks), `grpc_service` (OTLP/gRPC), `http_protocol` (uvicorn's connections),
  `metrics` and `worker_peers` (`/metrics` of one worker and of all).
- `request_handler`: a request of either protocol becomes an answer.
- `projects`: the project that a span is for; `ingest`: spans of one project become delivered events.
- `trace_window`: parent spans that arrive in other requests.
- `decode` (spans), `decode_logs` (calls in log records): OTLP bytes in; `otlp_response`: OTLP bytes out.
- `auth`: bearer tokens.
- `settings`, `project_file`, `startup_checks`, `limits`: command line, `--projects`, environment, limits.
- `json_log`, `memory_tuning`: log format and memory of a server process.
- `kafka`: `otel-posthog consume`, a consumer group with its own `consumer`, `settings` and `metrics`.
"""
