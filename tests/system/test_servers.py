"""The embedded servers as they are: started, killed, restarted, found again."""

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from tapeline.streams.servers import Servers

pytestmark = pytest.mark.slow


def test_the_shared_servers_answer(servers: Servers, database: str) -> None:
    topics = AdminClient({"bootstrap.servers": str(servers.bootstrap_servers)}).list_topics(timeout=10)
    assert len(topics.brokers) == 1
    with psycopg.connect(database) as connection:
        assert connection.info.server_version >= 180000
    found = servers.home.addresses()
    assert found is not None
    assert (found.bootstrap_servers, found.dsn) == (servers.bootstrap_servers, servers.dsn)
