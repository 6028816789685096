"""The published documents: up to date, valid to the AsyncAPI project's own parser, true of the events we send."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import find, given, settings

from tapeline.schemas import TOPICS, Instrument, Lease, Rejected, Signal
from tapeline.schemas.asyncapi import BINARY, EVENTS, asyncapi, json_schemas
from tapeline.schemas.generate import documents, main
from tapeline.schemas.topics import Schema
from tests.schemas.strategies import instruments, leases, rejected, signals

DOCS = Path(__file__).parents[2] / "docs" / "schemas"
Node = Callable[..., "subprocess.Popen[str]"]


def test_the_committed_documents_are_up_to_date() -> None:
    committed = {path.name: path.read_text() for path in DOCS.iterdir()}
    assert committed == documents(), "run `make docs-schemas` and commit docs/schemas"


def test_generating_writes_every_document(tmp_path: Path) -> None:
    main(tmp_path / "made" / "here")
    assert {path.name: path.read_text() for path in (tmp_path / "made" / "here").iterdir()} == documents()


def test_every_topic_is_a_channel_and_every_writer_and_reader_an_operation() -> None:
    document = asyncapi()
    assert list(document["channels"]) == list(TOPICS)
    assert set(document["operations"]) == {
        f"{role}.{action}.{topic.name}"
        for topic in TOPICS.values()
        for action, roles in (("send", topic.writers), ("receive", topic.readers))
        for role in roles
    }
    assert EVENTS.keys() | BINARY.keys() == set(Schema)
    assert not EVENTS.keys() & BINARY.keys()


def parse(node: Node, document: dict[str, Any]) -> dict[str, Any]:
    with node("parse_asyncapi.cjs") as process:
        output, _ = process.communicate(json.dumps(document), timeout=120)
    answer: dict[str, Any] = json.loads(output)
    return answer


def errors(answer: dict[str, Any]) -> list[str]:
    """The parser's findings of severity error (0) or warning (1); hints are matters of taste."""
    return [one["message"] for one in answer["diagnostics"] if one["severity"] <= 1]


@pytest.mark.slow
def test_the_asyncapi_document_is_valid(node: Node) -> None:
    answer = parse(node, json.loads((DOCS / "asyncapi.json").read_text()))
    assert errors(answer) == []
    assert answer["channels"] == list(TOPICS)


@pytest.mark.slow
def test_the_parser_would_find_a_fault(node: Node) -> None:
    document = copy.deepcopy(asyncapi())
    document["operations"]["logic.send.signals"]["channel"]["$ref"] = "#/channels/nowhere"
    document["channels"]["raw"]["partitions"] = 4
    assert len(errors(parse(node, document))) >= 2


def faults(node: Node, events: list[tuple[str, Any]]) -> list[list[str]]:
    """What the JSON Schemas say about each (name of schema, event)."""
    lines = "\n".join(json.dumps({"schema": name, "event": event}) for name, event in events)
    with node("validate_events.cjs", str(DOCS)) as process:
        output, _ = process.communicate(lines, timeout=120)
    found = [json.loads(line) for line in output.splitlines()]
    assert len(found) == len(events)
    return found


@pytest.mark.slow
def test_what_is_sent_follows_its_json_schema(node: Node) -> None:
    sent: list[tuple[str, Any]] = []

    @settings(max_examples=200, database=None)
    @given(signals | rejected | instruments | leases)
    def collect(event: Signal | Rejected | Instrument | Lease) -> None:
        sent.append((type(event).__name__, json.loads(event.encode())))

    collect()
    assert {name for name, _ in sent} == set(json_schemas())
    assert [(event, found) for event, found in zip(sent, faults(node, sent), strict=True) if found] == []


@pytest.mark.slow
def test_the_json_schemas_refuse_what_is_wrong(node: Node) -> None:
    signal = json.loads(find(signals, lambda _: True).encode())
    wrong = [
        signal | {"side": "hold"},
        signal | {"price": 1.5},
        signal | {"price": "1e5"},
        signal | {"seq": -1},
        signal | {"id": "x"},
        signal | {"more": 1},
        {name: value for name, value in signal.items() if name != "tags"},
        signal | {"origin": signal["origin"] | {"offset": "1"}},
    ]
    assert faults(node, [("Signal", signal)]) == [[]]
    for event, found in zip(wrong, faults(node, [("Signal", event) for event in wrong]), strict=True):
        assert found, event
