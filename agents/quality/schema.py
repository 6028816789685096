"""The JSON Schema of a report: `python -m tapeline.agents.quality.schema FILE` writes it (`make docs-schemas`)."""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from tapeline.agents.quality.report import QualityReport


class _AsWritten(GenerateJsonSchema):
    """The name of a field needs no title beside it."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_text() -> str:
    """Return the schema as docs/quality.schema.json holds it."""
    schema = QualityReport.model_json_schema(mode="serialization", schema_generator=_AsWritten)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text())
