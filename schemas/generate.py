"""Write what follows from the topic table and the event types into docs/schemas: `make docs-schemas` calls it.

The documents themselves are made in `asyncapi`; a test compares the committed files with `documents()`.
"""

import json
import sys
from pathlib import Path

from tapeline.schemas.asyncapi import asyncapi, json_schemas
from tapeline.schemas.topics import HOURS_FOREVER, TOPICS, Topic

README = """\
# Topics and their records

Made by `make docs-schemas` from the one topic table (`schemas/topics.py`) and the event types; do not edit by hand.

| topic | record | key | partitions | kept | written by | read by | |
|---|---|---|---|---|---|---|---|
{rows}

{descriptions}

- `asyncapi.json`: all of it as an AsyncAPI 3.0 document.
- `{schemas}`: the events that are JSON, one a record, as they are sent (JSON Schema 2020-12).
- `../../schemas/frames.ksy`: the records that are bytes, for any language that Kaitai Struct compiles to. It is in the
  Python package too: `importlib.resources.files("tapeline.schemas") / "frames.ksy"`. In JavaScript, whose numbers end
  at 2^53, give the reader a stream that reads 64-bit numbers as BigInt, as `tests/schemas/node/read_frames.cjs` does.

Partitions and retention are defaults (see [configuration](../configuration.md)); `tapeline topics list` shows what a
broker has.
"""


def documents() -> dict[str, str]:
    """Return the text of each file in docs/schemas, by name."""
    schemas = json_schemas()
    texts = {f"{name}.schema.json": _json(schema) for name, schema in schemas.items()}
    texts["asyncapi.json"] = _json(asyncapi())
    texts["README.md"] = README.format(
        rows="\n".join(_row(topic) for topic in TOPICS.values()),
        descriptions="\n".join(f"- `{topic.name}`: {topic.description}" for topic in TOPICS.values()),
        schemas="`, `".join(f"{name}.schema.json" for name in schemas),
    )
    return texts


def main(folder: Path) -> None:
    """Write the documents into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text)


def _row(topic: Topic) -> str:
    if topic.compacted:
        kept = "last of each key"
    else:
        kept = "for ever" if topic.retention_hours == HOURS_FOREVER else f"{topic.retention_hours} h"
    cells = (
        f"`{topic.name}`",
        topic.schema.value,
        topic.key,
        str(topic.partitions),
        kept,
        ", ".join(topic.writers),
        ", ".join(topic.readers),
        "public" if topic.public else "internal",
    )
    return f"| {' | '.join(cells)} |"


def _json(document: dict[str, object]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/schemas"))
