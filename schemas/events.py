"""Events that travel one by one as JSON: Signal, Rejected, Instrument. Frozen, typed, checked when read.

Prices and quantities are decimal strings; times are int nanoseconds UTC; ids are computed from where the
event comes from, never drawn, so that whoever repeats the work makes the same event.
"""

import base64
import hashlib
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema

from tapeline.schemas.errors import EventError

DecimalString = Annotated[
    Decimal,
    PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^-?\d+(\.\d+)?$"}, mode="serialization"),
]
"""A decimal that is a plain string in JSON (no exponent)."""
UInt32 = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=255)]

PAYLOAD_BYTES_MAX = 256 * 1024
"""How much of a rejected payload its event carries; the whole of it stays in the origin's topic."""


def computed_id(*parts: str | int) -> str:
    """Return 32 hex digits that depend on every part and on nothing else (BLAKE2b, 128 bits)."""
    return hashlib.blake2b(orjson.dumps(parts), digest_size=16).hexdigest()


def decimal_text(value: float) -> str:
    """Return the shortest decimal of a finite float64, written as a DecimalString is."""
    text = repr(value)
    return format(Decimal(text), "f") if "e" in text else text


class Event(BaseModel):
    """What all events share: frozen, no unknown fields, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> bytes:
        """Return the event as one line of JSON, fields in declared order."""
        return self.__pydantic_serializer__.to_json(self)

    @classmethod
    def decode(cls, record: bytes | str) -> Self:
        """Read JSON; raise EventError that names each field at fault."""
        try:
            return cls.model_validate_json(record)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors())
            raise EventError(f"not a {cls.__name__}: {faults}") from error


class SignalOrigin(Event):
    """The tick that caused a signal: `index` is its number among the instrument's ticks in that raw record."""

    partition: Count = Field(description="raw partition")
    offset: Count = Field(description="raw offset")
    index: Count = Field(description="n-th tick of the instrument in that raw record, from 0")


class Signal(Event):
    """What a trading logic says about an instrument."""

    id: str = Field(pattern="^[0-9a-f]{32}$", description="hash of logic, version, parameters, origin, instrument, k")
    seq: Count = Field(description="gapless per logic and partition, from 0")
    tenant: Name
    logic: Name
    version: Name
    params_hash: Name
    instrument: Name = Field(description="venue:SYMBOL")
    side: Literal["buy", "sell", "flat"]
    strength: float = Field(description="size of the conviction, as the logic defines it")
    price: DecimalString = Field(description="price of the tick that caused it (a quote: the middle)")
    ts_event_ns: int
    ts_recv_ns: int
    valid_until_ns: int = Field(description="event is void after this moment of receive time")
    origin: SignalOrigin
    tags: dict[str, str] = Field(default_factory=dict)


class RejectReason(StrEnum):
    """Why something could not be processed."""

    MALFORMED = "malformed"  # not what the venue's format allows
    UNKNOWN = "unknown"  # well-formed, of a kind this version does not know
    OVERSIZED = "oversized"  # larger than this version processes
    CORRUPT = "corrupt"  # not a whole frame or event of ours
    LATE = "late"  # well-formed, but what it belongs to cannot be changed any more
    FAILED = "failed"  # our own code failed on it


class RejectOrigin(Event):
    """Where the payload lies: `index` is its number within that record."""

    topic: Name
    partition: Count
    offset: Count
    index: Count


class Rejected(Event):
    """Something that could not be processed, with the reason and the way back to it."""

    id: str = Field(pattern="^[0-9a-f]{32}$", description="hash of role and origin")
    role: Name = Field(description="who rejected it")
    reason: RejectReason
    detail: str = Field(max_length=1000)
    origin: RejectOrigin
    source: str = Field(description="venue/connection, empty if not known")
    time_ns: int = Field(description="receive time of the payload, 0 if not known")
    payload_bytes: Count = Field(description="size of the whole payload")
    payload_base64: str = Field(description=f"the payload, its first {PAYLOAD_BYTES_MAX} bytes at most")

    @classmethod
    def of(
        cls,
        role: str,
        reason: RejectReason,
        detail: str,
        origin: RejectOrigin,
        payload: bytes,
        *,
        source: str = "",
        time_ns: int = 0,
    ) -> "Rejected":
        """Make the event; its id follows from role and origin."""
        return cls(
            id=computed_id(role, origin.topic, origin.partition, origin.offset, origin.index),
            role=role,
            reason=reason,
            detail=detail[:1000],
            origin=origin,
            source=source,
            time_ns=time_ns,
            payload_bytes=len(payload),
            payload_base64=base64.b64encode(payload[:PAYLOAD_BYTES_MAX]).decode(),
        )

    @property
    def key(self) -> str:
        """The key of its record in topic `rejected`: what was rejected from one partition stays in order."""
        return f"{self.origin.topic}/{self.origin.partition}"

    @property
    def payload(self) -> bytes:
        """The payload's bytes (the first PAYLOAD_BYTES_MAX of them)."""
        return base64.b64decode(self.payload_base64)


class Instrument(Event):
    """What can be traded, as the registry knows it. What nobody has said yet is null."""

    id: UInt32
    name: Name = Field(pattern="^[a-z0-9-]+:.+$", description="venue:SYMBOL in the venue's own spelling")
    partition: Count = Field(description="its partition in `ticks`")
    valid_from_ns: int = 0
    base: str | None = None
    quote: str | None = None
    settle: str | None = None
    multiplier: DecimalString | None = None
    tick: DecimalString | None = None
    lot: DecimalString | None = None
    session: str | None = None
    status: str | None = Field(default=None, description="whether it trades, in the venue's words")

    @property
    def venue(self) -> str:
        """The part of the name before the colon."""
        return self.name.partition(":")[0]
