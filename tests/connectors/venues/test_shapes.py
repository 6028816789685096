"""Templates become a program: shared beginnings are read once, what cannot be told apart is refused."""

import numpy as np
import pytest

from tapeline.connectors.venues import scan
from tapeline.connectors.venues.binance_shapes import SCANNERS
from tapeline.connectors.venues.shapes import BOOLEAN, TEXT, Field, bits, ends, integer, program
from tapeline.schemas import TICK, Flag, Kind

END = ends(Kind.TRADE)
FIELDS: dict[str, Field] = {"id": integer("SEQUENCE"), "text": TEXT, "bool": BOOLEAN}


def listing(*templates: str) -> list[tuple[str, int, int]]:
    """Literal, code and otherwise of each operation."""
    return [
        (int(op["word"]).to_bytes(8, "little")[: op["literal"]].decode(), op["code"].item(), op["otherwise"].item())
        for op in program([(template, END) for template in templates], FIELDS)
    ]


def test_a_literal_stands_before_what_follows_it() -> None:
    assert listing('{"identifier":<id>}') == [
        ('{"identi', scan.NOTHING, -1),
        ('fier":', scan.INTEGER, -1),
        ("}", scan.END, -1),
    ]


def test_what_templates_begin_with_is_shared() -> None:
    assert listing('{"a":<id>,"b":1}', '{"a":<id>,"c":1}', '{"x":<id>}') == [
        ('{"', scan.NOTHING, -1),
        ('a":', scan.INTEGER, 5),
        (',"', scan.NOTHING, -1),
        ('b":1}', scan.END, 4),
        ('c":1}', scan.END, -1),
        ('x":', scan.INTEGER, -1),
        ("}", scan.END, -1),
    ]


def test_one_template_may_go_on_where_another_ends() -> None:
    assert listing("<id>", "<id>\r") == [("", scan.INTEGER, -1), ("\r", scan.END, 2), ("", scan.END, -1)]


def test_a_field_of_literals_is_a_branch() -> None:
    assert listing("<bool>") == [("true", scan.END, 1), ("false", scan.END, -1)]


def test_shapes_that_differ_in_a_field_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in a field"):
        listing('{"a":"<id>"}', '{"a":"<text>"}')
    with pytest.raises(ValueError, match="differ in a field"):
        program([("<id>", END), ("<id>", ends(Kind.QUOTE))], FIELDS)


@pytest.mark.parametrize("venue", SCANNERS)
def test_programs_only_go_forward_and_end(venue: str) -> None:
    ops = SCANNERS[venue].program
    for number, op in enumerate(ops):
        assert op["otherwise"] == -1 or number < op["otherwise"] < len(ops)
        assert op["code"] == scan.END or number + 1 < len(ops)


def test_bits_are_those_of_a_tick() -> None:
    (tick,) = np.array([[0, 0, 0, bits(Kind.BOOK, -1, Flag.LAST | Flag.LOCKED) | 7, 0, 0, 0, 0]]).view(TICK)[0]
    assert [tick[name] for name in ("kind", "side", "flags", "instrument_id")] == [3, -1, Flag.LAST | Flag.LOCKED, 7]
