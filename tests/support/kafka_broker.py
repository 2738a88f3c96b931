"""A real Apache Kafka broker on loopback, in KRaft mode: one process that is broker and controller.

Its jars are brought by `.ci/kafka/fetch`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.waiting import free_ports

__all__ = ["Broker", "MissingBrokerError", "broker", "free_ports"]

_CHECKSUMS = Path(__file__).parents[2] / ".ci" / "kafka" / "checksums"
_START_SECONDS = 90.0
"""A broker starts in four seconds; the machine may be busy with other tests."""
_JAVA = (
    "java", "-Xms64m", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)  # fmt: skip
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "true",
    "num.partitions": "1",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    # A consumer that was killed is missed after seconds, not after 45.
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.enable": "false",
    "num.network.threads": "1",
    "num.io.threads": "2",
}


class MissingBrokerError(Exception):
    """There is no broker on this machine; the text says what brings one."""


def _jars() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = hashlib.sha256(_CHECKSUMS.read_bytes()).hexdigest()[:12]
    found = cache / "otel-posthog" / f"kafka-{version}"
    if shutil.which("java") is None or not found.is_dir():
        raise MissingBrokerError(
            "no Apache Kafka here: .ci/kafka/fetch brings it (Java 17 and mvn are needed)"
        )
    return found


class Broker:
    """One broker, and what it has on disk, which stays from start to start."""

    def __init__(self, place: Path) -> None:
        """Format the storage.

        Raises:
            MissingBrokerError: this machine has none.
        """
        self._jars = _jars()
        self._place = place
        client, controller = free_ports(2)
        self.address = f"127.0.0.1:{client}"
        self._settings = place / "server.properties"
        settings = _SETTINGS | {
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(place / "data"),
        }
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self._process: subprocess.Popen[bytes] | None = None
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._run("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._settings)).wait(60)

    def _run(self, *words: str) -> subprocess.Popen[bytes]:
        with (self._place / "broker.log").open("ab") as log:
            return subprocess.Popen(
                [*_JAVA, "-cp", f"{self._jars}/*", *words], stdout=log, stderr=log, start_new_session=True
            )

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process = self._run("kafka.Kafka", str(self._settings))
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers():
                return
        said = (self._place / "broker.log").read_text(errors="replace")[-3000:]
        self.kill()
        raise RuntimeError(f"the broker did not start: {said}")

    def _answers(self) -> bool:
        try:
            return bool(self._admin().list_topics(timeout=2).brokers)
        except KafkaException:
            time.sleep(0.1)
            return False

    def stop(self) -> None:
        """Let it end in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a machine that fails."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Kill it and start it on the same data."""
        self.kill()
        self.start()

    def topic(self, partitions: int, name: str | None = None, settings: dict[str, str] | None = None) -> str:
        """Make a topic, with a name that no other test has unless one is given."""
        name = name or f"otlp_spans_{uuid.uuid4().hex[:8]}"
        admin = self._admin()  # its end would end what it does
        admin.create_topics([NewTopic(name, partitions, 1, config=settings or {})])[name].result(30)
        return name

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})


@contextmanager
def broker(place: Path) -> Iterator[Broker]:
    """A broker that runs, and is gone afterwards."""
    made = Broker(place)
    made.start()
    try:
        yield made
    finally:
        made.kill()
