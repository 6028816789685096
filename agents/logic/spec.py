"""What a configured logic is: which code, with which parameters, on which instruments. `logic_config` makes it.

Apart from the host, so that settings can be checked without loading the compiler.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tapeline.agents.logic.authoring import Logic, Number, params_hash

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LogicSpec:
    """A configured logic: `name` is its own, `logic` what runs, on instruments that match one of the patterns."""

    name: str
    logic: Logic
    params: Mapping[str, Number]
    instruments: Sequence[str] = ("*",)
    valid_ns: int = 60 * NANOSECONDS
    tenant: str = "local"
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Version as signals carry it."""
        return f"{self.logic.name}-{self.logic.version}"

    @property
    def params_hash(self) -> str:
        """Hash of parameters and instruments."""
        return params_hash(self.params, self.instruments)

    def unit(self, partition: int) -> str:
        """Name of this logic's snapshot: another version, other parameters or instruments are another unit."""
        return f"{self.name}/{self.version}/{self.params_hash}/{partition}"
