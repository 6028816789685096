"""Message shapes: a venue's messages written as templates, made into the program that `scan` walks.

A template is a message as the venue sends it, byte for byte, with `<name>` where a field stands:

    {"e":"trade","E":<int>,"s":"<symbol>","t":<id>,"p":"<price>","q":"<size>","T":<ms>,"m":<maker>,"M":<bool>}

The templates of a venue share what they have in common: the program is a prefix tree, which reads a message once
however many shapes there are. A message of no shape is the library parser's, so a shape that is missing costs time and
nothing else; one that takes what the library parser would not is a fault.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from tapeline.connectors.venues.columns import INTEGER_MAX, NUMBER_MAX, SYMBOL_CHARACTERS_MAX
from tapeline.schemas import TICK, Flag, Kind, Ticks

Value = Literal["INTEGER", "DECIMAL", "NUMBER", "SECONDS", "ISO"]
Code = (
    Value
    | Literal["NOTHING", "SYMBOL", "TEXT", "CELL", "LEVELS", "OPEN", "NEXT", "SET", "MEMBERS", "MORE", "SAID", "END"]
)
Register = Literal["TIME", "SEQUENCE", "STAMP", "BEFORE", "FLOOR", "LATEST", "KEPT", "NOWHERE", "BITS"]
Column = Register | Literal["PRICE", "SIZE", "PRICE2", "SIZE2"]
Follow = Literal["UNFOLLOWED", "CONSECUTIVE", "LINKED", "AFRESH"]
Rows = Literal["ONE", "SHARED", "EACH", "NONE", "GROUPS"]

Program = npt.NDArray[np.void]
"""(operations,) scan.OP"""

_NO_FLAG = Flag(0)
LITERAL_BYTES_MAX = 8
INTEGER_DIGITS_MAX = 19

EVENT_BITS = 24
"""An event of a frame is named by its message's index, shifted by so many bits, + its number in that message."""
ANY, ANEW = -(2**63), 1 - 2**63
"""In place of the number that comes right before: numbers may jump; they begin anew with this one (a full picture)."""


@dataclass(frozen=True, slots=True)
class Step:
    """What an operation does after its literal; `scan.OP` says what each field is to which code."""

    code: Code
    bits: int = 0
    last_bits: int = 0
    size: int = 0
    column: Column = "NOWHERE"
    zeros: int = 0
    least: int = 0
    most: int = 0
    unit: int = 1
    plus: int = 0
    rows: Rows = "ONE"
    turned: int = 0
    stream: int = 0
    follow: Follow = "UNFOLLOWED"
    quote: int = 0


NOTHING = Step("NOTHING")
Field = Sequence[Sequence[bytes | Step]]
"""The ways to write a field, each of literals and steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Messages whose numbers are followed together, apart for each symbol; their numbers are in `state` by name.

    counted: they are consecutive, so that the size of a gap is known.
    """

    name: str
    kind: Kind
    counted: bool = True


@dataclass(frozen=True)
class Scanner:
    """Everything that `scan` needs to know about a venue (or one kind of its files)."""

    shapes: Sequence[tuple[str, Step]]
    """(template, its END step)"""
    fields: Mapping[str, Field]

    @cached_property
    def program(self) -> Program:
        """The program, made when it is first needed."""
        return program(self.shapes, self.fields)

    @cached_property
    def says(self) -> bool:
        """Whether messages say only what has changed (see `members`)."""
        return any(end.rows == "GROUPS" for _, end in self.shapes)


def integer(
    column: Column,
    *,
    least: int = 0,
    most: int = INTEGER_MAX,
    unit: int = 1,
    plus: int = 0,
    digits: int = INTEGER_DIGITS_MAX,
    zeros: bool = False,
) -> Field:
    """Return a field of digits, least to most; zeros: whether more of them than needed may stand in front.

    A register gets value * unit + plus, a tick's column value / unit.
    """
    return [[Step("INTEGER", size=digits, column=column, zeros=zeros, least=least, most=most, unit=unit, plus=plus)]]


def decimal(column: Column, *, positive: bool = False) -> Field:
    """Return a field of digits with at most one point, as `columns.decimals` takes them."""
    return [[Step("DECIMAL", column=column, least=int(positive), most=int(NUMBER_MAX))]]


def number(column: Column, *, positive: bool = False) -> Field:
    """Return a field of a JSON number, as `columns.numbers` takes them."""
    return [[Step("NUMBER", column=column, least=int(positive), most=int(NUMBER_MAX))]]


def skipped_number() -> Field:
    """Return a field of a JSON number that says nothing, with or without a minus."""
    return [[Step("NUMBER", most=int(NUMBER_MAX))], [b"-", Step("NUMBER", most=int(NUMBER_MAX))]]


def seconds(column: Column) -> Field:
    """Return a field of seconds since 1970, as `columns.seconds_ns` takes them."""
    return [[Step("SECONDS", column=column)]]


def iso(column: Column) -> Field:
    """Return a field of a time as RFC 3339 writes it, as `columns.iso_ns` takes it."""
    return [[Step("ISO", column=column)]]


def items(template: str, fields_: Mapping[str, "Field"], *, side: int = 0, rows: Rows = "SHARED") -> Field:
    """Return a field of a list, `[]` or `[ITEM,...]`, a tick an item. template: of an item; side: of all of them."""
    first = Step("OPEN", bits=bits(side=side))
    after = Step("NEXT", bits=bits(side=side), rows=rows)
    return [[b"[", first, *way, after] for way in _ways(template, fields_)]


def members(fields_: Mapping[str, Field]) -> Field:
    """Return a field of a JSON object of texts: those of fields_ in any order, each if it comes, and any others."""
    begin, after = Step("MEMBERS"), Step("MORE")
    ways: list[list[bytes | Step]] = [[b'"', Step("TEXT"), b'":"', Step("TEXT")]]
    ways += [[f'"{name}":"'.encode(), *way] for name, field in fields_.items() for way in field]
    return [[b"{", begin, *way, b'"', after] for way in ways]


def said(number: int, group: int, *, digits: int, decimals: int, signed: bool = False) -> Field:
    """Return a field that is noted as it stands, to be put over what was said before: a decimal number or nothing.

    number: of the field, 0 to 7; group: of the tick that it makes, 0 to 2; digits, decimals: before and behind the
    point, at most; signed: whether a minus may stand in front.
    """
    return [[Step("SAID", plus=number, unit=group, size=digits, zeros=decimals, least=-int(signed))]]


def says(*, anew: bool) -> Step:
    """Return the last step of a shape that says only what has changed; anew: what was said before does not count."""
    return Step("END", rows="GROUPS", plus=int(anew))


def levels(side: int) -> Field:
    """Return a field of book levels, [["price","size"],...], a tick each."""
    return [[Step("LEVELS", bits=bits(side=side), most=int(NUMBER_MAX))]]


def sets(value: int) -> Step:
    """Return a step that sets bits of the tick."""
    return Step("SET", column="BITS", bits=value)


def bits(kind: int = 0, side: int = 0, flags: int = 0) -> int:
    """Return kind, side and flags of a tick as they stand in its fourth 8 bytes."""
    tick: Ticks = np.zeros(1, TICK)
    tick["kind"], tick["side"], tick["flags"] = kind, side, flags
    return int(tick.view(np.int64)[3])


def ends(
    kind: Kind,
    stream: int | None = None,
    follow: Follow = "UNFOLLOWED",
    *,
    rows: Rows | None = None,
    flags: Flag = _NO_FLAG,
    turned: bool = False,
) -> Step:
    """Return the last step of a shape; BOOK messages have a tick a level.

    rows: of lists, whether each item is an event of its own; flags: of all ticks; turned: asks come before bids.
    """
    book = kind == Kind.BOOK
    return Step(
        "END",
        bits(kind, flags=flags),
        bits(flags=Flag.LAST) if book else 0,
        rows=rows or ("SHARED" if book else "ONE"),
        turned=int(turned),
        stream=stream or 0,
        follow=follow,
        quote=int(kind == Kind.QUOTE),
    )


IGNORED = Step("END", rows="NONE")
"""The last step of a shape that says nothing."""
SYMBOL: Field = [[Step("SYMBOL", size=SYMBOL_CHARACTERS_MAX)]]
TEXT: Field = [[Step("TEXT")]]
"""What stands in a JSON string and needs no escape."""
CELL: Field = [[Step("CELL")]]
"""What stands between two commas."""
BOOLEAN: Field = [[b"true"], [b"false"]]
LEVEL: dict[str, Field] = {"price": decimal("PRICE", positive=True), "size": decimal("SIZE")}
"""The fields of a book level."""


_Tree = dict[int | Step, "_Tree"]


@dataclass(slots=True)
class _Op:
    literal: bytes
    step: Step
    otherwise: int = -1
    jump: int = -1


def program(shapes: Iterable[tuple[str, Step]], fields_: Mapping[str, Field]) -> Program:
    """Return the program that reads all shapes; raise ValueError if two differ in a field instead of a literal."""
    tree: _Tree = {}
    for template, end in shapes:
        for way in _ways(template, fields_):
            at = tree
            for piece in (*way, end):
                for token in piece if isinstance(piece, bytes) else (piece,):
                    at = at.setdefault(token, {})
    ops: list[_Op] = []
    _write(tree, ops, -1)
    return _table(ops)


def _ways(template: str, fields_: Mapping[str, Field]) -> Iterator[list[bytes | Step]]:
    """Give the ways to write a template, each of literals and steps."""
    parts = re.split(r"<([^<>]+)>", template)
    pieces: list[Field] = [fields_[part] if odd % 2 else [[part.encode()]] for odd, part in enumerate(parts)]
    for way in product(*pieces):
        yield [piece for pieces in way for piece in pieces]


def _write(tree: _Tree, ops: list[_Op], opened: int) -> None:
    """Append the operations of a tree, the branches that begin with a literal first; opened: that of the list around.

    A list goes back from behind each item to the first operation of an item, whichever branch this one took: all of
    them go on with the same when the list is over. So does an object from behind each member.
    """
    branches = sorted(tree.items(), key=lambda branch: isinstance(branch[0], Step))
    if sum(isinstance(token, Step) for token, _ in branches) > 1:
        raise ValueError(f"shapes differ in a field, not in a literal: {[token for token, _ in branches]}")
    for number, (token, below) in enumerate(branches):
        literal, step, begin = b"", NOTHING, len(ops)
        while True:
            if isinstance(token, Step):
                step = token
                break
            literal += bytes([token])
            ((token, deeper), *others) = below.items()
            if others or (isinstance(token, int) and len(literal) == LITERAL_BYTES_MAX):
                break
            below = deeper
        ops.append(_Op(literal, step))
        if step.code in ("NEXT", "MORE"):
            ops[-1].jump = opened + 1
            ops[opened].jump = len(ops)
        _write(below, ops, begin if step.code in ("OPEN", "MEMBERS") else opened)
        if number + 1 < len(branches):
            ops[begin].otherwise = len(ops)


def _table(ops: Sequence[_Op]) -> Program:
    # Here, so that whoever only reads recordings does not wait for numba.
    from tapeline.connectors.venues import scan

    table = np.zeros(len(ops), scan.OP)
    for row, op in zip(table, ops, strict=True):
        for field in fields(Step):
            value = getattr(op.step, field.name)
            row[field.name] = getattr(scan, value) if isinstance(value, str) else value
        row["word"] = int.from_bytes(op.literal, "little")
        row["mask"] = (1 << 8 * len(op.literal)) - 1
        row["literal"] = len(op.literal)
        row["otherwise"] = op.otherwise
        row["jump"] = op.jump
    table.flags.writeable = False
    return table
