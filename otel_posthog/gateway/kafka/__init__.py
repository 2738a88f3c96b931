"""A consumer group that takes OTLP from Kafka."""
