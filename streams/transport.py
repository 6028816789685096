"""Faust, set up in one place: the app of a role, its transport, and how a process ends.

The agents are ordinary Faust agents on Faust's aiokafka driver, with one change: reading starts where the
role's snapshot says. `agents/*` build their app with `role_app`; `tapeline worker` runs them with `run`.
"""

import asyncio
import logging
import os
import ssl
import sys
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NoReturn, cast

import faust
from aiokafka.errors import IllegalStateError  # type: ignore[import-untyped]
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka
from faust.types import TP
from faust.types.auth import CredentialsT

from tapeline.schemas import TapelineError
from tapeline.streams.role import Role
from tapeline.streams.settings import KafkaSettings, Settings, kafka_bootstrap

log = logging.getLogger(__name__)

FETCH_BYTES = 2 * 1024 * 1024  # larger fetches cost more: aiokafka copies them
BUFFERED_RECORDS = 64
EXIT_FAILED = 70
HANDOVER_SECONDS_MAX = 15
GIL_SECONDS = 0.0001
RESTORE_SECONDS_MAX = 60
"""Below Faust's own limit, broker_request_timeout (90 s)."""


class RoleConsumer(aiokafka.Consumer):
    """Faust's consumer, reading from where the role's state ends instead of the group's committed offset."""

    role: Role

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Restore the role's state for the assigned partitions and seek to their next offsets.

        Every path in Faust that positions the consumer comes through here. When Faust waits for it too long, it
        stops reading for ever and says nothing: we end the process before.
        """
        try:
            return await asyncio.wait_for(self._restore_and_seek(), RESTORE_SECONDS_MAX)
        except TimeoutError:
            end_process(self.role, TapelineError(f"its state was not there after {RESTORE_SECONDS_MAX} s"))
        except IllegalStateError as error:
            log.info("role %s: %s; the next rebalance is under way", self.role.name, error)
            return {}
        except Exception as error:
            end_process(self.role, error)

    async def _restore_and_seek(self) -> Mapping[TP, int]:
        role = self.role
        assigned = {tp.partition: tp for tp in self.assignment() if tp.topic == role.input.name}
        starts = await role.restore(frozenset(assigned))
        first = await self.earliest_offsets(*assigned.values()) if assigned else {}
        end = await self.highwaters(*assigned.values()) if assigned else {}
        for partition, tp in assigned.items():
            start = starts[partition]
            if start > end[tp]:
                raise TapelineError(
                    f"role {role.name} has read {tp.topic}[{partition}] up to {start}, but the topic ends at "
                    f"{end[tp]}: records that were there are lost. Bring them back, or start with new topics and an "
                    "empty database"
                )
            if start < first[tp]:
                if start > 0:
                    lost = f"records {start} to {first[tp] - 1} were removed before role {role.name} read them"
                    log.error("%s[%d]: %s", tp.topic, partition, lost)
                starts[partition] = first[tp]
                role.start_at(partition, first[tp])
        await self.seek_wait({tp: starts[partition] for partition, tp in assigned.items()})
        log.info("role %s reads %s from %s", role.name, role.input.name, starts or "no partition")
        return {tp: starts[partition] for partition, tp in assigned.items()}

    async def commit_next(self, offsets: Mapping[int, int]) -> None:
        """Commit the next offset of each partition that is still ours: for lag monitors, nothing else reads it."""
        ours = self.assignment()
        wanted = {TP(self.role.input.name, partition): offset for partition, offset in offsets.items()}
        if ours and (known := {tp: offset for tp, offset in wanted.items() if tp in ours}):
            await self._commit(known)


def role_app(role: Role, settings: Settings, instance: str | None) -> faust.App:
    """Return the Faust app of a role: one consumer group, started and stopped with the role's own connections.

    instance: name of this process that stays the same over restarts (static membership), so that a process
    that was killed gets its partitions back at once.
    """
    servers = kafka_bootstrap(settings).split(",")
    app = faust.App(
        f"tapeline.{role.name}",
        broker=[f"kafka://{server.strip()}" for server in servers],
        broker_credentials=_credentials(settings.kafka),
        consumer_group_instance_id=instance,  # None = dynamic membership; an empty name would be a name
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        broker_session_timeout=settings.worker.session_timeout_seconds,
        broker_heartbeat_interval=settings.worker.session_timeout_seconds / 4,
        # Waiting for a database that is away is no reason to leave the group.
        broker_max_poll_interval=24 * 3600.0,
        key_serializer="raw",
        value_serializer="raw",
        stream_buffer_maxsize=BUFFERED_RECORDS,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=str(settings.home / "faust" / role.name),
        store="memory://",
    )
    app.transport = _transport(app, role)
    app.conf.datadir.parent.mkdir(parents=True, exist_ok=True)

    async def checkpoint() -> None:
        """Make the work so far safe, then tell the broker where we are, for lag monitors."""
        try:
            offsets = await role.checkpoint()
        except Exception as error:
            end_process(role, error)
        await cast(RoleConsumer, app.consumer).commit_next(offsets)

    @app.timer(interval=settings.worker.snapshot_seconds, name=f"{role.name}.checkpoint")  # type: ignore[untyped-decorator]
    async def now_and_then() -> None:
        await checkpoint()

    @app.on_partitions_revoked.connect
    async def before_partitions_go(*_: Any, signal: Any, **__: Any) -> None:
        await _in_time(role, checkpoint())

    @app.on_partitions_assigned.connect
    async def when_nothing_is_ours(*assigned: Any, signal: Any, **_: Any) -> None:
        # Faust does not position a consumer that got nothing, so the role would keep what it had.
        if not assigned[-1]:
            await role.restore(frozenset())

    @app.on_before_shutdown.connect
    async def before_shutdown(*_: Any, signal: Any, **__: Any) -> None:
        await _in_time(role, role.close())

    return app


async def drive(role: Role, stream: faust.StreamT[bytes]) -> None:
    """Hand every record of the stream to the role, in order. An error ends the process: Faust would go on."""
    async for event in stream.events():
        message = event.message
        try:
            await role.receive(message.partition, message.offset, message.value)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            end_process(role, error)


async def _in_time(role: Role, work: Awaitable[None]) -> None:
    """Others wait for our partitions: what is not done soon is left to whoever reads on from the last snapshot."""
    try:
        await asyncio.wait_for(work, HANDOVER_SECONDS_MAX)
    except TimeoutError:
        end_process(role, TapelineError(f"its work was not safe after {HANDOVER_SECONDS_MAX} s; is the broker away?"))
    except Exception as error:
        end_process(role, error)


def run(apps: Sequence[faust.App], loglevel: str = "INFO") -> None:
    """Run the apps in this process until Ctrl-C or SIGTERM; raises SystemExit with the worker's exit code."""
    # Faust's consumer has a thread of its own: at the default 5 ms it and we wait for each other at every record.
    sys.setswitchinterval(GIL_SECONDS)
    first, *others = apps
    faust.Worker(first, *others, loglevel=loglevel, redirect_stdouts=False).execute_from_commandline()


def end_process(role: Role, error: BaseException) -> NoReturn:
    """End this process at once: the state on the broker is whole, and a fresh process starts from it."""
    log.critical("role %s cannot go on: %s", role.name, error, exc_info=not isinstance(error, TapelineError))
    logging.shutdown()
    os._exit(EXIT_FAILED)


def _transport(app: faust.App, role: Role) -> aiokafka.Transport:
    consumer = type("Consumer", (RoleConsumer,), {"role": role})
    transport = type("Transport", (aiokafka.Transport,), {"Consumer": consumer})
    return cast(aiokafka.Transport, transport(app.conf.broker_consumer, app))


def _credentials(kafka: KafkaSettings) -> CredentialsT | None:
    context: ssl.SSLContext | None = None
    if kafka.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=kafka.ssl_ca_location)
        if kafka.ssl_certificate_location:
            password = kafka.ssl_key_password.get_secret_value() if kafka.ssl_key_password else None
            context.load_cert_chain(kafka.ssl_certificate_location, kafka.ssl_key_location, password)
    if kafka.security_protocol.startswith("SASL"):
        password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
        return SASLCredentials(
            username=kafka.sasl_username, password=password, mechanism=kafka.sasl_mechanism, ssl_context=context
        )
    return SSLCredentials(context) if context else None
