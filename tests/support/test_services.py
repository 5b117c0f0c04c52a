"""Each service starts, speaks, survives what it should, and ends with its starter."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import asyncpg
import boto3
import pytest
import redis.asyncio

from tests.support.processes import NotReady, state_of, unavailable, wait_until


@pytest.mark.aws
def test_moto_serves_and_forgets(moto_server):
    sqs = moto_server.client("sqs")
    url = sqs.create_queue(QueueName="support-self-test")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="hello")
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "hello"


@pytest.mark.kinesis
def test_kinesis_takes_and_gives_records(kinesis_server):
    kinesis = kinesis_server.client("kinesis")
    kinesis.create_stream(StreamName="support", ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName="support", WaiterConfig={"Delay": 1})
    put = kinesis.put_record(StreamName="support", PartitionKey="k", Data=b"hello")
    iterator = kinesis.get_shard_iterator(
        StreamName="support", ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    assert [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]] == [b"hello"]
    kinesis.delete_stream(StreamName="support")


@pytest.mark.redis
async def test_redis_keeps_its_data_over_a_kill(redis_server):
    async with redis.asyncio.from_url(redis_server.url) as client:
        await client.set("support", "kept")
    redis_server.restart(hard=True)
    async with redis.asyncio.from_url(redis_server.url) as client:
        assert await client.get("support") == b"kept"


@pytest.mark.postgres
async def test_postgres_keeps_committed_rows_over_a_kill(postgres_server):
    connection = await asyncpg.connect(postgres_server.dsn)
    assert await connection.fetchval("show wal_level") == "logical"
    await connection.execute("create table support_self_test as select 7 as kept")
    connection.terminate()
    postgres_server.restart(hard=True)
    connection = await asyncpg.connect(postgres_server.dsn)
    assert await connection.fetchval("select kept from support_self_test") == 7
    await connection.execute("drop table support_self_test")
    await connection.close()


def _frame(command: str, body: str = "", **headers: str) -> bytes:
    lines = [command, *(f"{key.replace('_', '-')}:{value}" for key, value in headers.items())]
    return "\n".join([*lines, "", f"{body}\0"]).encode()


def _talk(connection: socket.socket, frame: bytes) -> bytes:
    connection.sendall(frame)
    answer = b""
    while b"\0" not in answer:
        answer += connection.recv(65536)
    return answer.strip()


@pytest.mark.activemq
def test_activemq_keeps_persistent_messages_over_a_kill(start_activemq):
    broker = start_activemq(sync=True)
    connect = _frame("CONNECT", accept_version="1.2", host="eip", login=broker.user, passcode=broker.password)
    with socket.create_connection((broker.host, broker.port), timeout=10) as connection:
        assert _talk(connection, connect).startswith(b"CONNECTED")
        sent = _frame("SEND", "hello", destination="/queue/support", persistent="true", receipt="1")
        assert _talk(connection, sent).startswith(b"RECEIPT")
    broker.restart(hard=True)
    with socket.create_connection((broker.host, broker.port), timeout=10) as connection:
        assert _talk(connection, connect).startswith(b"CONNECTED")
        got = _talk(connection, _frame("SUBSCRIBE", destination="/queue/support", id="1", ack="auto"))
        assert got.startswith(b"MESSAGE")
        assert b"hello" in got


@pytest.mark.activemq
def test_activemq_speaks_tls_with_a_certificate_that_verifies(activemq_broker):
    context = ssl.create_default_context(cafile=activemq_broker.certificate)
    with (
        socket.create_connection((activemq_broker.host, activemq_broker.tls_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        answer = _talk(connection, _frame("CONNECT", accept_version="1.2", host="eip", login="eip", passcode="wrong"))
    assert answer.startswith(b"ERROR")


@pytest.mark.browser
async def test_the_browser_runs_script_waits_and_takes_a_picture(browser, tmp_path):
    html = '<title>t</title><input id=i><button onclick="setTimeout(() => document.title = i.value, 50)">b</button>'
    async with browser.page(f"data:text/html,{html}") as page:
        await page.fill("#i", "typed")
        await page.click("button")
        assert await page.wait_for("document.title === 'typed' && document.title") == "typed"
        picture = await page.screenshot(tmp_path / "page.png")
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert page.errors == []


@pytest.mark.redis
def test_a_service_dies_with_the_process_that_started_it(redis_server, tmp_path):
    """As when pytest is killed with -9."""
    script = (
        "import sys, pathlib, time; from tests.support.redis import RedisServer\n"
        "server = RedisServer(pathlib.Path(sys.argv[1])); server.start(); print(server.pid, flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter.stdout as said:
        server = int(said.readline())
        starter.kill()
        starter.wait()

    def gone():
        if (state := state_of(Path(f"/proc/{server}"))) not in ("Z", ""):
            raise NotReady(state)

    wait_until(gone, timeout=10)


@pytest.mark.redis
async def test_a_paused_service_keeps_its_connections_and_answers_later(redis_server):
    async with redis.asyncio.from_url(redis_server.url) as client:
        await client.ping()
        redis_server.pause()
        try:
            asked = asyncio.ensure_future(client.ping())
            done, _ = await asyncio.wait([asked], timeout=0.2)
            assert not done
        finally:
            redis_server.resume()
        assert await asked


def test_what_is_missing_skips_at_home_and_fails_in_ci(monkeypatch):
    monkeypatch.setattr("tests.support.processes.installable", lambda: True)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        unavailable("a thing")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        unavailable("a thing")
    monkeypatch.setattr("tests.support.processes.installable", lambda: False)
    with pytest.raises(pytest.skip.Exception):
        unavailable("a thing")


def test_the_environment_has_no_real_credentials():
    assert boto3.Session().get_credentials().access_key == "testing"
