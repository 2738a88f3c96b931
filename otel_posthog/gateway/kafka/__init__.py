"""`otel-posthog consume`: a consumer group reads OTLP from a Kafka topic and delivers it to PostHog.

- `consumer`: the process, its parts put together.
- `group`: membership, polling, pausing, commits, rebalances; `batch`: decisions, without Kafka or a clock.
- `batch_delivery`: messages become delivered events or dead letters; `dead_letters`: the topic of the latter.
- `lag`, `metrics`: the consumer's lag and counts, for Prometheus; `settings`: command line and Kafka client.
"""
