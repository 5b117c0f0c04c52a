"""A real ActiveMQ Classic broker (Debian's package) with its own configuration, data folder, ports and certificate."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from tests.support.certificates import KEYSTORE_PASSWORD, make_certificate
from tests.support.processes import NotReady, Service, free_port, unavailable

HOME = Path("/usr/share/activemq")
USER, PASSWORD = "eip", "eip-secret"

# Persistent, with the scheduler (delayed and retried messages), and a user beside anonymous clients. The journal is not
# synced to disk unless asked for. Then the broker confirms what it has not written yet, and a kill of it may lose that:
# tests that kill a broker and count what it accepted ask for it.
CONFIGURATION = """\
<beans xmlns="http://www.springframework.org/schema/beans"
       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xsi:schemaLocation="http://www.springframework.org/schema/beans
         http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
         http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName={name} dataDirectory={data} useJmx="false"
          persistent="true" schedulerSupport="true" useShutdownHook="true" schedulePeriodForDestinationPurge="{purge}">
    <destinationPolicy><policyMap><policyEntries>
      {queue_policies}
      <policyEntry topic="&gt;" producerFlowControl="false"/>
    </policyEntries></policyMap></destinationPolicy>
    <persistenceAdapter>
      <kahaDB directory={store} journalDiskSyncStrategy={sync} journalMaxFileLength="8mb"
              checkForCorruptJournalFiles="true"/>
    </persistenceAdapter>
    <plugins>
      <simpleAuthenticationPlugin anonymousAccessAllowed="true"><users>
        <authenticationUser username={user} password={password} groups="users"/>
      </users></simpleAuthenticationPlugin>
    </plugins>
    <sslContext>
      <sslContext keyStore={keystore} keyStorePassword={keystore_password} keyStoreType="PKCS12"/>
    </sslContext>
    <systemUsage><systemUsage>
      <memoryUsage><memoryUsage limit="128 mb"/></memoryUsage>
      <storeUsage><storeUsage limit="2 gb"/></storeUsage>
      <tempUsage><tempUsage limit="512 mb"/></tempUsage>
    </systemUsage></systemUsage>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:{port}?transport.hbGracePeriodMultiplier=1.5"/>
      <transportConnector name="openwire" uri="tcp://127.0.0.1:{openwire_port}"/>
      <transportConnector name="stomps" uri="stomp+ssl://127.0.0.1:{tls_port}?transport.hbGracePeriodMultiplier=1.5"/>
    </transportConnectors>
  </broker>
</beans>
"""

LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1} - %m%n
"""


class ActiveMQBroker(Service):
    """`url` is plain STOMP, `tls_url` STOMP over TLS, trusted through `certificate` (a PEM file for 127.0.0.1)."""

    host = "127.0.0.1"
    user = USER
    password = PASSWORD
    log_name = "broker.log"
    purge = 0
    """Milliseconds between looks for queues that are used no more; 0: never."""
    queue_policies = '<policyEntry queue="&gt;" producerFlowControl="false" queuePrefetch="1000"/>'

    def __init__(self, folder: Path, *, name: str = "eip", sync: bool = False) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.tls_port = free_port()
        self.openwire_port = free_port()
        self.openwire_url = f"tcp://127.0.0.1:{self.openwire_port}"
        self.url = f"stomp://{USER}:{PASSWORD}@127.0.0.1:{self.port}"
        self.tls_url = f"stomp+ssl://{USER}:{PASSWORD}@127.0.0.1:{self.tls_port}"
        self.certificate, keystore = make_certificate(folder)
        values = {
            "name": name,
            "data": str(folder / "data"),
            "sync": "always" if sync else "never",
            "store": str(folder / "data" / "kahadb"),
            "user": USER,
            "password": PASSWORD,
            "keystore": keystore.as_uri(),
            "keystore_password": KEYSTORE_PASSWORD,
        }
        quoted = {key: quoteattr(value) for key, value in values.items()}
        raw = {
            "port": self.port,
            "tls_port": self.tls_port,
            "openwire_port": self.openwire_port,
            "purge": self.purge,
            "queue_policies": self.queue_policies,
        }
        (folder / "activemq.xml").write_text(CONFIGURATION.format(**quoted, **raw))
        (folder / "log4j2.properties").write_text(LOGGING)

    def command(self) -> Sequence[str]:
        return [
            "java",
            # A small heap and the quick compiler only: up in a few seconds on a busy machine.
            *("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"),
            f"-Dactivemq.home={HOME}",
            f"-Dactivemq.base={self.folder}",
            f"-Dactivemq.conf={self.folder}",
            f"-Dactivemq.data={self.folder / 'data'}",
            f"-Dlog4j2.configurationFile={(self.folder / 'log4j2.properties').as_uri()}",
            f"-Djava.io.tmpdir={self.folder}",
            *("-jar", str(HOME / "bin" / "activemq.jar")),
            *("start", f"xbean:{(self.folder / 'activemq.xml').as_uri()}"),
        ]

    def check(self) -> None:
        self._greet(self.port)

    def _greet(self, port: int) -> None:
        with socket.create_connection((self.host, port), timeout=5) as connection:
            connection.sendall(
                f"CONNECT\naccept-version:1.2\nhost:eip\nlogin:{USER}\npasscode:{PASSWORD}\n\n\0".encode()
            )
            answer = connection.recv(4096)
        if not answer.startswith(b"CONNECTED"):
            raise NotReady(answer)


def _require() -> None:
    if shutil.which("java") is None or not (HOME / "bin" / "activemq.jar").exists():
        unavailable("activemq")


@pytest.fixture(scope="session")
def activemq_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActiveMQBroker]:
    """One for the session (with xdist: for the worker). A test that kills it must start it again."""
    _require()
    broker = ActiveMQBroker(tmp_path_factory.mktemp("activemq"))
    broker.start()
    yield broker
    broker.stop(timeout=5)


@pytest.fixture
def start_activemq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ActiveMQBroker]]:
    """Starts brokers of the test's own, each with its data folder (``sync=True``: synced); they end with the test."""
    _require()
    brokers: list[ActiveMQBroker] = []

    def start(**options: bool) -> ActiveMQBroker:
        broker = ActiveMQBroker(tmp_path_factory.mktemp("activemq"), name=f"eip-{len(brokers)}", **options)
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.kill()
