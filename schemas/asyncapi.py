"""The AsyncAPI 3 document and the JSON Schemas, made from the topic table and the event types.

`python -m tapeline.schemas.generate` writes them into docs/schemas; a test holds the files to what this gives.
"""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from tapeline.schemas.events import Event, Instrument, Rejected, Signal
from tapeline.schemas.frames import RECORD_BYTES_MAX
from tapeline.schemas.lease import Lease
from tapeline.schemas.topics import TOPICS, Schema, Topic

VERSION = "1.0.0"
"""Version of the events and frames: the first number changes when readers must change."""
EVENTS: dict[Schema, type[Event]] = {
    Schema.SIGNAL: Signal,
    Schema.INSTRUMENT: Instrument,
    Schema.REJECTED: Rejected,
    Schema.LEASE: Lease,
}
BINARY = {
    Schema.RAW_FRAME: "Messages of one connection as received, with their receive times, in one record.",
    Schema.TICK_FRAME: "Ticks of one partition of `ticks` from one record of `raw`, 64 bytes each.",
    Schema.BAR_FRAME: "Bars of one partition of `bars`, of one interval, from one record of `ticks`, 104 bytes each.",
    Schema.SNAPSHOT: "State of one unit of a role, with the next offset that it expects and its lane marks.",
}
"""The schemas that are bytes; frames.ksy has their layout."""

Json = dict[str, Any]


class _AsSent(GenerateJsonSchema):
    """Every field is there in what is sent, and its name needs no title beside it."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return True

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schemas() -> dict[str, Json]:
    """Return the JSON Schema (2020-12) of each event as it is sent, by name of the event."""
    return {
        name: {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:tapeline:{name}:{VERSION}",
            **event.model_json_schema(mode="serialization", schema_generator=_AsSent),
        }
        for name, event in EVENTS.items()
    }


def asyncapi() -> Json:
    """Return the AsyncAPI 3.0 document: a channel a topic, an operation a writer or reader of it.

    Source: AsyncAPI Specification 3.0.0 and its Kafka bindings 0.5.0.
    """
    _, definitions = models_json_schema(
        [(event, "serialization") for event in EVENTS.values()],
        ref_template="#/components/schemas/{model}",
        schema_generator=_AsSent,
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tapeline",
            "version": VERSION,
            "description": "Market ticks in, trading signals out: every Kafka topic of Tapeline, what its records "
            "hold, and which role writes and reads it. Partitions and retention are defaults; the configuration may "
            "say otherwise.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS.values()},
        "operations": {
            f"{role}.{action}.{topic.name}": _operation(role, action, topic)
            for topic in TOPICS.values()
            for action, roles in (("send", topic.writers), ("receive", topic.readers))
            for role in roles
        },
        "components": {
            "messages": {schema.value: _message(schema) for schema in Schema},
            "schemas": definitions["$defs"],
        },
    }


def _channel(topic: Topic) -> Json:
    settings = topic.settings()
    configuration: Json = {
        "cleanup.policy": [settings["cleanup.policy"]],
        "max.message.bytes": int(settings["max.message.bytes"]),
    }
    if "retention.ms" in settings:
        configuration["retention.ms"] = int(settings["retention.ms"])
    return {
        "address": topic.name,
        "title": topic.name,
        "description": topic.description,
        "messages": {topic.schema.value: {"$ref": f"#/components/messages/{topic.schema}"}},
        "tags": [{"name": "public" if topic.public else "internal"}],
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": "0.5.0",
            }
        },
        "x-key": topic.key,
    }


def _operation(role: str, action: str, topic: Topic) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{topic.schema}"}],
        "tags": [{"name": role}],
    }


def _message(schema: Schema) -> Json:
    key = next(topic.key for topic in TOPICS.values() if topic.schema is schema)
    message: Json = {
        "name": schema.value,
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
    }
    if schema in EVENTS:
        content = {"contentType": "application/json", "summary": EVENTS[schema].__doc__}
        return message | content | {"payload": {"$ref": f"#/components/schemas/{schema}"}}
    payload: Json = {
        "type": "string",
        "format": "binary",
        "maxLength": RECORD_BYTES_MAX,
        "description": f"Bytes; the layout is type `{snake_case(schema)}` in frames.ksy (Kaitai Struct).",
    }
    return message | {"contentType": "application/octet-stream", "summary": BINARY[schema], "payload": payload}


def snake_case(name: str) -> str:
    """Return `TickFrame` as `tick_frame`, the way frames.ksy writes it."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
