"""A real Apache Kafka broker on loopback, in KRaft mode: one process that is broker and controller.

`.ci/kafka/fetch` downloads its jars.
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
"""A broker starts in four seconds, or later if the machine is busy with other tests."""
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
    # The broker misses a killed consumer after seconds, not after 45.
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
    """There is no broker on this machine; the text says how to install one."""


def _jars() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = hashlib.sha256(_CHECKSUMS.read_bytes()).hexdigest()[:12]
    jars = cache / "otel-posthog" / f"kafka-{version}"
    if shutil.which("java") is None or not jars.is_dir():
        raise MissingBrokerError(
            "no Apache Kafka here: .ci/kafka/fetch downloads it (Java 17 and mvn are needed)"
        )
    return jars


class Broker:
    """One broker, and its data on disk, which survives a restart."""

    def __init__(self, place: Path) -> None:
        """Format the storage.

        Raises:
            MissingBrokerError: there is no broker on this machine.
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
        log = (self._place / "broker.log").read_text(errors="replace")[-3000:]
        self.kill()
        raise RuntimeError(f"the broker did not start: {log}")

    def _answers(self) -> bool:
        try:
            return bool(self._admin().list_topics(timeout=2).brokers)
        except KafkaException:
            time.sleep(0.1)
            return False

    def stop(self) -> None:
        """Stop it with SIGTERM."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, as a failing machine does."""
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
        """Create a topic, and return its name: `name`, or one that no other test has."""
        name = name or f"otlp_spans_{uuid.uuid4().hex[:8]}"
        admin = self._admin()  # it must outlive its own request
        admin.create_topics([NewTopic(name, partitions, 1, config=settings or {})])[name].result(30)
        return name

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})


@contextmanager
def broker(place: Path) -> Iterator[Broker]:
    """Run a broker, and kill it at the end."""
    running = Broker(place)
    running.start()
    try:
        yield running
    finally:
        running.kill()
