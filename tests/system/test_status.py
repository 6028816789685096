"""`tapeline status` and /metrics on a real platform: what they say is what the brokers have, also when things die."""

import json
import os
import signal
import subprocess
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tapeline.streams.home import Home
from tapeline.streams.status import EXIT_UNHEALTHY
from tapeline.streams.workers import WorkerFiles
from tests.system.platform import TAPELINE, Platform, running_platform, wait_until

INPUTS = {"normalize": "raw", "logic": "ticks", "persist": "signals", "persist-ticks": "ticks"}


def status(platform: Platform, *args: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """One report; its exit status must be what it says about health."""
    command = [*TAPELINE, "status", "--json", *args]
    done = subprocess.run(command, env=platform.env | (env or {}), capture_output=True, timeout=120)
    assert done.returncode in (0, EXIT_UNHEALTHY), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["healthy"] == (done.returncode == 0)
    return report


def healthy(platform: Platform) -> dict[str, Any] | None:
    """A report in which every partition is with a worker that answers, or None."""
    report = status(platform)
    return report if report["healthy"] and {row["state"] for row in report["partitions"]} == {"ok"} else None


def scraped(home: Home) -> dict[str, dict[str, float]]:
    """Sum of each sample over the partitions, by role, of all workers."""
    sums: dict[str, dict[str, float]] = {}
    for worker in WorkerFiles(home).live():
        with urllib.request.urlopen(f"http://{worker.address}/metrics", timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            for sample in (sample for family in families for sample in family.samples):
                role = sums.setdefault(sample.labels.get("role", ""), {})
                role[sample.name] = role.get(sample.name, 0) + sample.value
    return sums


@pytest.mark.slow
def test_status_and_metrics_of_a_running_platform(home: Home) -> None:
    with running_platform(home, {"TAPELINE_DATABASE__STORE_TICKS": "*"}) as platform:
        # 1. Every partition has its worker.
        report = wait_until(lambda: healthy(platform), "every partition to be with a worker")
        rows = {(row["role"], row["partition"]): row["worker"] for row in report["partitions"]}
        assert rows == {(role, number): f"{role}-0" for role in INPUTS for number in range(4)}
        assert {row["watchdog"] for row in report["roles"]} == {"ok"}

        # 2. What the workers counted is what is in the topics.
        platform.cli("ingest", "sim", "--seed", "7", "--seconds", "60")
        platform.wait_until_done()
        wait_until(lambda: platform.committed("persist-ticks", "ticks") == platform.ends("ticks"), "ticks to be kept")
        numbers = scraped(home)
        for role, topic in INPUTS.items():
            assert numbers[role]["tapeline_partition_records_total"] == sum(platform.ends(topic).values())
            assert numbers[role]["tapeline_partition_lag"] == 0
            assert numbers[role]["tapeline_role_partitions"] == 4
            assert numbers[role]["tapeline_role_processing_duration_seconds_count"] == sum(
                platform.ends(topic).values()
            )
            assert numbers[role]["tapeline_producer_unconfirmed_records"] == 0
        assert numbers["logic"]["tapeline_partition_items_total"] == sum(len(frame) for frame in platform.frames())
        assert numbers["persist"]["tapeline_partition_items_total"] == len(platform.rows("SELECT id FROM signals"))
        kept = [one for frame in platform.frames() for one in frame.ticks if one["instrument_id"]]
        assert len(kept) == len(platform.rows("SELECT kind FROM ticks")) > 0
        assert numbers["persist-ticks"]["tapeline_partition_items_total"] == len(kept)
        for role in ("normalize", "logic"):
            assert numbers[role]["tapeline_partition_snapshot_size_bytes"] > 0
        report = wait_until(lambda: healthy(platform), "a report after the work")
        assert {row["lag"] for row in report["partitions"]} == {0}
        busy = [
            row for row in report["partitions"] if row["role"] == "logic" and row["snapshot_age_seconds"] is not None
        ]
        assert busy
        assert all(0 <= row["snapshot_age_seconds"] < 600 for row in busy)

        # 3. From a home without workers: what the brokers know, and what a worker says that is named.
        apart = {"TAPELINE_HOME": str(home.path / "apart"), "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": platform.bootstrap}
        report = status(platform, env=apart)
        assert report["healthy"]
        assert {(row["state"], row["lag"]) for row in report["partitions"]} == {("elsewhere", 0)}
        assert {row["worker"] for row in report["partitions"]} == {f"{role}.{role}-0" for role in INPUTS}
        [logic] = [worker.address for worker in WorkerFiles(home).live() if worker.worker == "logic-0"]
        report = status(platform, "--worker", logic, env=apart)
        assert {row["worker"] for row in report["partitions"] if row["state"] == "ok"} == {"logic-0"}

        # 4. A worker that was killed is started again, and that is counted.
        platform.wait_for_new_process("logic", platform.kill("logic"))
        report = wait_until(lambda: healthy(platform), "the logic role to come back")
        assert {row["role"]: row["restarts"] for row in report["roles"]} == dict.fromkeys(INPUTS, 0) | {"logic": 1}

        # 5. A second worker, started by hand, is found with its share, and gone when it ends.
        second = platform.start("worker", "logic", "--instance", "second")

        def shared() -> bool:
            found = healthy(platform)
            owners = [row["worker"] for row in found["partitions"] if row["role"] == "logic"] if found else []
            return sorted(owners) == ["logic-0", "logic-0", "second", "second"]

        wait_until(shared, "two workers to share the partitions")
        second.terminate()
        assert second.wait(60) == 0
        assert "second" not in {worker.worker for worker in WorkerFiles(home).live()}
        wait_until(lambda: healthy(platform), "the first worker to have all partitions again")

        # 6. A worker that is frozen is named.
        frozen = platform.pid_of("persist")
        assert frozen is not None
        os.kill(frozen, signal.SIGSTOP)
        try:
            report = status(platform)
            assert any("does not answer" in problem for problem in report["problems"])
        finally:
            os.kill(frozen, signal.SIGCONT)
        wait_until(lambda: healthy(platform), "the frozen worker to go on")

    # 7. Nothing runs any more.
    done = subprocess.run([*TAPELINE, "status"], env=platform.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Nothing runs here" in done.stderr
