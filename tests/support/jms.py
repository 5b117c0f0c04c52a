"""A real JMS program (Java, OpenWire): sends what only JMS producers can send, and reads as JMS consumers do."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.activemq import HOME, ActiveMQBroker
from tests.support.processes import dies_with_us, unavailable

__all__ = ["JmsMessage", "JmsProgram", "jms"]

_SOURCE = Path(__file__).parent / "jms" / "JmsProgram.java"
_JARS = ("activemq-client", "geronimo-jms_1.1_spec", "geronimo-j2ee-management-1.1-spec", "hawtbuf", "slf4j-api")
_TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}


class JmsMessage(NamedTuple):
    """What a JMS consumer sees; the headers of JMS have names that begin with "!"."""

    kind: str
    """``text``, ``bytes``, ``map``, ``stream``, ``object`` or ``other``."""
    body: str
    """A text, or the base64 of bytes."""
    properties: dict[str, tuple[str, str]]
    """By name: Java's type and the value as text."""


class JmsProgram:
    """The Java program; its commands are given one after the other."""

    def __init__(self, broker: ActiveMQBroker, classes: Path) -> None:
        words = ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", _class_path(classes)]
        self._process = subprocess.Popen(
            [*dies_with_us(), *words, "JmsProgram", broker.openwire_url, broker.user, broker.password],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._read() == "ready"

    async def send(
        self, queue: str, body: str | bytes = "", *, kind: str = "text", properties: Mapping[str, Any] | None = None
    ) -> str:
        """Send a message and return its JMSMessageID; properties whose names begin with "!" are headers of JMS."""
        words = ["send", queue, "bytes" if isinstance(body, bytes) else kind]
        words.append(b64encode(body).decode() if isinstance(body, bytes) else body)
        for name, value in (properties or {}).items():
            words += [name, _TYPES[type(value)], str(value).lower() if isinstance(value, bool) else str(value)]
        (message_id,) = await self._ask(words)
        return message_id

    async def receive(self, queue: str, *, wait: float = 30.0) -> JmsMessage | None:
        """The next message of the queue, acknowledged; None after ``wait`` seconds."""
        found = await self._ask(["receive", queue, str(round(wait * 1000))])
        if not found:
            return None
        kind, body, *rest = found
        return JmsMessage(kind, body, {rest[i]: (rest[i + 1], rest[i + 2]) for i in range(0, len(rest), 3)})

    async def _ask(self, words: list[str]) -> list[str]:
        line = " ".join("=" + b64encode(word.encode()).decode() for word in words)
        status, *answer = (await asyncio.to_thread(self._exchange, line)).split(" ")
        decoded = [b64decode(word[1:]).decode() for word in answer]
        if status == "error":
            raise RuntimeError(f"JMS: {decoded[0]}")
        return decoded

    def _exchange(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().rstrip("\n")

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.communicate()


def _class_path(classes: Path) -> str:
    return ":".join([str(classes), *(str(HOME / "lib" / f"{name}.jar") for name in _JARS)])


@pytest.fixture(scope="session")
def jms(activemq_broker: ActiveMQBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JmsProgram]:
    """The program on the session's broker; compiled for the session."""
    if shutil.which("javac") is None:
        unavailable("javac")
    classes = tmp_path_factory.mktemp("jms")
    subprocess.run(
        ["javac", "-nowarn", "-cp", _class_path(classes), "-d", str(classes), str(_SOURCE)],
        check=True,
        capture_output=True,
    )
    program = JmsProgram(activemq_broker, classes)
    yield program
    program.close()
