"""Imported by the process that `nursery` forks from: the code of every command that a run starts, logics compiled."""

from tapeline.agents import logic_worker, normalize, persist, worker
from tapeline.agents.logic.examples import SHIPPED
from tapeline.agents.logic.host import Instance
from tapeline.agents.logic.spec import LogicSpec
from tapeline.connectors.venues import ingest
from tapeline.streams import cli, transport

__all__ = ["cli", "ingest", "logic_worker", "normalize", "persist", "transport", "worker"]

for _name, _logic in SHIPPED.items():
    Instance(LogicSpec(_name, _logic, _logic.bind({})), str).warm_up()
