"""Emulators of AWS, each in its own process: moto for all services, ministack beside it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from eip.transports.aws._client import service_client
from tests.support.environment import ACCOUNT, ENVIRONMENT, REGION
from tests.support.members import CALLS
from tests.support.processes import NotReady, Service, free_port, unavailable


class AwsEmulator(Service):
    """A server that speaks the services' protocols on one port; state is in memory, so a restart empties it."""

    region = REGION
    account = ACCOUNT

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # It is there, and only late where other work has the cores: no first call is to give up on it.
        setattr(service_client, "_FIRST_TIMEOUT_S", 60.0)  # noqa: B010 - a constant to all others
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._session: Any = None

    @property
    def session(self) -> Any:
        """A session for `AwsTransport(session=...)`: it reads the SDK's service models once for all tests."""
        if self._session is None:
            from aiobotocore.session import get_session

            self._session = get_session()
            self._session.set_config_variable("region", REGION)
        return self._session

    def client(self, service: str) -> Any:
        """A plain boto3 client: the other side in interoperability tests."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        )


class MotoServer(AwsEmulator):
    """All of AWS that the library speaks to."""

    def command(self) -> Sequence[str]:
        server = Path(__file__).with_name("moto_in_order.py")
        return [sys.executable, str(server), "-H", "127.0.0.1", "-p", str(self.port)]

    def check(self) -> None:
        with urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=5) as answer:
            if answer.status != 200:
                raise NotReady(answer.status)

    def start(self) -> None:
        """Also calls each service once: moto loads their code then, which takes seconds on a busy machine."""
        super().start()
        for service in ("sqs", "sns", "events", "kinesis", "sts"):
            scope = f"Credential=testing/20260101/{REGION}/{service}/aws4_request"
            headers = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}
            request = urllib.request.Request(self.url, data=b"Action=Nothing", headers=headers)
            with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=60):
                pass

    def reset(self) -> None:
        """Forgets every queue, topic, table and bucket."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass


class MiniStack(AwsEmulator):
    """A second emulator, for what moto does otherwise than the services: targets' input, disabled rules, replays."""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "ministack"]

    def environment(self) -> Mapping[str, str]:
        own = {"GATEWAY_PORT": str(self.port), "BIND_HOST": "127.0.0.1", "MINISTACK_ACCOUNT_ID": ACCOUNT}
        return {**os.environ, **own, "LOG_LEVEL": "WARNING", "TMPDIR": str(self.folder)}

    def check(self) -> None:
        with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=5) as answer:
            if answer.status != 200:
                raise NotReady(answer.status)


def native_messages(sqs: Any, url: str) -> list[dict[str, Any]]:
    """What a queue holds, as a plain client of the service reads it; all of it is given back."""
    found: list[dict[str, Any]] = []
    options = {"AttributeNames": ["All"], "MessageAttributeNames": ["All"], "MaxNumberOfMessages": 10}
    while batch := sqs.receive_message(QueueUrl=url, VisibilityTimeout=60, **options).get("Messages", []):
        found += batch
    for each in reversed(found):
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"], VisibilityTimeout=0)
    return found


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """One for the session (with xdist: for the worker); tests keep apart by the names they choose."""
    CALLS.watch()
    server = MotoServer(tmp_path_factory.mktemp("moto"))
    server.start()
    yield server
    server.stop(timeout=3)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniStack]:
    """One for the session (with xdist: for the worker)."""
    if importlib.util.find_spec("ministack") is None:
        unavailable("ministack")
    CALLS.watch()
    server = MiniStack(tmp_path_factory.mktemp("ministack"))
    server.start()
    yield server
    server.stop(timeout=3)


@pytest.fixture(autouse=True)
def _calls_set_what_is_listed():
    """Every call to an emulator sets only what tests/transports/aws/members.toml lists."""
    yield
    assert CALLS.take() == []
