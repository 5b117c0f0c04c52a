"""The kinesis-local emulator (npm), in a process of its own; moto where npm is not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws import MotoServer
from tests.support.environment import ENVIRONMENT, REGION
from tests.support.processes import NotReady, Service, free_port, unavailable

PACKAGE = Path(__file__).resolve().parents[2] / ".services" / "node_modules" / "kinesis-local"

#: What the emulator makes as slow as the service unless told.
SLOW_STEPS = (
    *("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS", "UPDATE_SHARD_COUNT", "UPDATE_STREAM_MODE"),
    *("REGISTER_STREAM_CONSUMER", "DEREGISTER_STREAM_CONSUMER", "START_STREAM_ENCRYPTION", "STOP_STREAM_ENCRYPTION"),
)


class KinesisServer(Service):
    """`url` speaks Kinesis over plain HTTP; streams become active without the service's delays. State is in memory."""

    region = REGION

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self._tls_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.working_folder = PACKAGE  # it reads its certificate from there

    def command(self) -> Sequence[str]:
        return ["node", str(PACKAGE / "main.js")]

    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            **{f"{step}_DURATION": "0ms" for step in SLOW_STEPS},
            "KINESIS_MOCK_PLAIN_PORT": str(self.port),
            "KINESIS_MOCK_TLS_PORT": str(self._tls_port),
            "SHARD_LIMIT": "1000",
            "LOG_LEVEL": "WARN",
        }

    def check(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client("kinesis").list_streams()
        except (BotoCoreError, ClientError) as error:
            raise NotReady(str(error)) from error

    def client(self, service: str = "kinesis") -> Any:
        """A plain boto3 client, without retries."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=20, read_timeout=20),
        )


@pytest.fixture(scope="session")
def kinesis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KinesisServer | MotoServer]:
    folder = tmp_path_factory.mktemp("kinesis")
    server: KinesisServer | MotoServer
    if PACKAGE.exists() and shutil.which("node"):
        server = KinesisServer(folder)
    elif shutil.which("npm"):
        unavailable("kinesis-local")
    else:
        server = MotoServer(folder)
    server.start()
    yield server
    server.stop(timeout=3)
