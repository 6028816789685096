"""Kafka: settings, transport, producer, frame reader, state, embedded servers, the command line."""

__all__: list[str] = []
