"""Scatter-gather in every store: real processes over SQS (moto), killed with kill -9."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.stores.gathering import check

pytestmark = [pytest.mark.aws, pytest.mark.asyncio]

SERVERS = {"dynamodb": "moto_server", "postgres": "postgres_server", "redis": "redis_server"}


@pytest.fixture(
    params=[
        pytest.param("dynamodb"),
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("sqlite"),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    kind = request.param
    if kind == "sqlite":
        return kind, str(tmp_path / "gathering.sqlite")
    server = request.getfixturevalue(SERVERS[kind])
    return kind, server.dsn if kind == "postgres" else server.url


async def test_two_processes_of_which_one_is_killed(moto_server, store):
    """Between replies: the other completes what both asked, by its answers or at its deadline, each once."""
    await check(store, moto_server.url, f"t{uuid.uuid4().hex[:12]}", count=2, kills=1, requests=6)


@pytest.mark.soak
async def test_three_processes_of_which_two_are_killed(moto_server, store):
    await check(store, moto_server.url, f"t{uuid.uuid4().hex[:12]}", count=3, kills=2, requests=100)


@pytest.mark.soak
async def test_all_processes_are_killed_and_the_deadline_passes(moto_server, store):
    """The next process to start completes each with what was stored."""
    await check(store, moto_server.url, f"t{uuid.uuid4().hex[:12]}", count=2, kills=2, requests=20)
