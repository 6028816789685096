"""Make the topics of the table in `schemas/topics.py`, and say where a broker differs from it.

`ensure_topics` is called by `tapeline up`, `demo` and `tapeline topics create`. A topic that exists with other
partitions or settings is reported and left as it is; only `create --alter` changes settings, and says so.
"""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tapeline.schemas import TOPICS, TapelineError
from tapeline.streams.options import pass_settings
from tapeline.streams.settings import Settings
from tapeline.streams.topic_admin import State, TopicAdmin, TopicReport

__all__ = ["State", "TopicAdmin", "TopicReport", "ensure_topics", "topics"]


def ensure_topics(settings: Settings, bootstrap: str | None = None) -> list[TopicReport]:
    """Create what is missing at `bootstrap` (default: the settings' brokers) and compare all topics with the table.

    Doing it again changes nothing. Raises UnavailableError if no broker answers, TapelineError if it refuses.
    """
    return TopicAdmin(settings, bootstrap).ensure()


def as_json(report: TopicReport, offsets: list[tuple[int, int]] | None = None) -> dict[str, Any]:
    """Return the row of the table and what the broker has, ready for JSON; partitions 0 = missing."""
    topic = report.topic
    row: dict[str, Any] = {
        "name": topic.name,
        "state": report.state,
        "schema": topic.schema,
        "key": topic.key,
        "partitions": report.partitions,
        "replication_factor": report.replication_factor,
        "writers": topic.writers,
        "readers": topic.readers,
        "public": topic.public,
        "description": topic.description,
        "settings": report.settings,
        "differences": [
            {"what": one.what, "found": one.found, "wanted": one.wanted, "remedy": one.remedy}
            for one in report.differences
        ],
    }
    if offsets is not None:
        row["records"] = sum(end - first for first, end in offsets)
        row["offsets"] = [{"first": first, "next": end} for first, end in offsets]
    return row


FORMAT = click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)


@click.group()
def topics() -> None:
    """Create, list and describe the Kafka topics that Tapeline uses.

    \b
    Examples:
      tapeline topics list
      tapeline topics create
      tapeline topics describe ticks --format json
    """


@topics.command()
@click.option("--alter", is_flag=True, help="Also give existing topics the settings (never the partitions) they lack.")
@FORMAT
@pass_settings
def create(settings: Settings, alter: bool, form: str) -> None:
    """Create the topics that are missing; exit 1 if an existing one differs from the table.

    \b
    Examples:
      tapeline topics create
      tapeline topics create --alter      after a change of retention_hours
    """
    admin = TopicAdmin(settings)
    reports = admin.ensure()
    changed = [(report, admin.alter(report)) for report in reports] if alter else []
    if any(changes for _, changes in changed):
        reports = admin.inspect()
    for report, changes in changed:
        for one in changes:
            click.echo(f"{report.topic.name}: {one.what} was {one.found}, now {one.wanted}", err=form == "json")
    _print(form, [as_json(report) for report in reports])
    if differ := [report.topic.name for report in reports if report.state is State.DIFFERS]:
        raise TapelineError(f"left as they are, though they differ from the table: {', '.join(differ)}")


@topics.command("list")
@FORMAT
@pass_settings
def list_(settings: Settings, form: str) -> None:
    """List the topics with the number of records they hold.

    \b
    Examples:
      tapeline topics list
      tapeline topics list --format json
    """
    admin = TopicAdmin(settings)
    _print(form, [as_json(report, admin.offsets(report)) for report in admin.inspect()])


@topics.command()
@click.argument("name", type=click.Choice(list(TOPICS)))
@FORMAT
@pass_settings
def describe(settings: Settings, name: str, form: str) -> None:
    """Show everything about one topic: who writes and reads it, its settings, the offsets of its partitions.

    \b
    Examples:
      tapeline topics describe signals
    """
    admin = TopicAdmin(settings)
    report = next(report for report in admin.inspect() if report.topic.name == name)
    row = as_json(report, admin.offsets(report))
    if form == "json":
        click.echo(json.dumps(row))
        return
    table = Table(show_header=False, box=None)
    for key, value in row.items():
        match value:
            case dict():
                value = "\n".join(f"{name} = {text}" for name, text in value.items())
            case list() if key == "offsets":
                value = "\n".join(f"{number}: {one['first']} to {one['next']}" for number, one in enumerate(value))
            case list():
                value = "\n".join(map(str, report.differences))
            case tuple():
                value = ", ".join(value)
        table.add_row(key, str(value))
    Console().print(table, markup=False)


def _print(form: str, rows: list[dict[str, Any]]) -> None:
    if form == "json":
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = Table("topic", "state", "partitions", "records", "kept", "schema", box=None)
    for row in rows:
        table.add_row(
            row["name"],
            row["state"],
            str(row["partitions"] or "-"),
            str(row.get("records", "-")),
            _retention(row["settings"]),
            row["schema"],
        )
    Console().print(table)
    for row in rows:
        for one in row["differences"]:
            click.echo(f"{row['name']}: {one['what']} is {one['found']}, should be {one['wanted']}: {one['remedy']}")


def _retention(settings: dict[str, str]) -> str:
    if not settings:
        return "-"
    if settings["cleanup.policy"] == "compact":
        return "last of each key"
    hours = int(settings["retention.ms"]) / 3_600_000
    return "for ever" if hours < 0 else f"{hours:g} h"
