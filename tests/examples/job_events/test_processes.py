"""Real processes, killed with kill -9 and started again, on real change data capture."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from contextlib import contextmanager
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest

from examples.job_events.channels import DEAD_LETTERS
from examples.job_events.database import SqliteDatabase
from examples.job_events.postgres_capture import PostgresCapture
from examples.job_events.translation import UntranslatableChange, translate
from tests.examples.job_events.processes import Processes

_SOAK = [pytest.mark.soak, pytest.mark.timeout(600)]


@contextmanager
def processes(folder, *options):
    running = Processes(folder, options)
    try:
        yield running
    finally:
        running.kill_all()


def wait_for(state, *, log):
    """Until it is true, asked four times a second at most; shows the log where that takes too long."""
    deadline = time.monotonic() + 100
    while not state():
        assert time.monotonic() < deadline, log.read_text()[-5000:]
        time.sleep(0.25)


def salaries(lines):
    """What the events say that jobs pay in the end, in hundredths."""
    state: dict[int, int] = {}
    for each in sorted(lines, key=lambda line: line["position"]):
        if each["type"] == "JobDeleted":
            state.pop(each["job_id"], None)
        else:
            state[each["job_id"]] = int(Decimal(each["salary"]["amount"]) * 100)
    return state


class Local:
    """An application on SQLite whose state is in a folder."""

    def __init__(self, folder):
        self.folder, self.database = folder, folder / "jobs.sqlite"

    def lines(self):
        found = (self.folder / "lake").glob("events/*/*.jsonl")
        return [json.loads(line) for each in found for line in each.read_text().splitlines()]

    def whole(self):
        """Whether every change was confirmed, and the lake has come to what the database says."""
        return _all_confirmed(self.database) and salaries(self.lines()) == _salaries(self.database)

    def check(self, app):
        """What must be true in the end."""
        assert Counter(Counter(each["id"] for each in self.lines()).values()).keys() == {1}

        async def jobs():
            async with SqliteDatabase(self.database) as opened:
                return await opened.jobs()

        expected = asyncio.run(jobs())
        wait_for(lambda: app.jobs() == expected, log=app.log)


ALL = ("publisher", "analytics", "inventory", "generate")
AGENCY = ("--rate", "60", "--jobs", "100", "--seed", "3")


def test_the_embedded_application_goes_on_where_it_was_killed(tmp_path):
    """Though its channels are in the process: what was not handled is read again."""
    local = Local(tmp_path / "app")
    with processes(tmp_path, "--state", "app", "--takeover", "1") as app:
        for kill in range(1, 3):
            app.start("run", *AGENCY, "--view", "lines")
            wait_for(lambda: len(local.lines()) > 20 * kill, log=app.log)  # noqa: B023 - called in the loop
            app.kill("run")
        app.start("run", "--limit", "0", "--view", "off")  # the agency rests
        wait_for(local.whole, log=app.log)
        assert app.end() == {"run": 0}
        local.check(app)


@pytest.mark.activemq
@pytest.mark.parametrize(
    "kills",
    [pytest.param(1, id="once"), pytest.param(5, id="five times", marks=_SOAK)],
)
def test_on_activemq_whatever_is_killed_goes_on(tmp_path, activemq_broker, kills):
    local = Local(tmp_path / "app")
    options = ("--transport", "activemq", "--endpoint-url", activemq_broker.url, "--state", "app", "--takeover", "1")
    with processes(tmp_path, *options, "--view", "off") as app:
        for each in ALL:
            app.start(each, *(AGENCY if each == "generate" else ()))
        for _ in range(kills):
            before = len(local.lines())
            wait_for(lambda: len(local.lines()) > before + 20, log=app.log)  # noqa: B023 - called in the loop
            for each in ALL:
                app.kill(each)
            for each in ALL:
                app.start(each, *(AGENCY if each == "generate" else ()))
        before = len(local.lines())
        wait_for(lambda: len(local.lines()) > before + 20, log=app.log)
        app.kill("generate")
        wait_for(local.whole, log=app.log)
        local.check(app)
        assert set(app.end().values()) == {0}, app.log.read_text()[-3000:]


def _all_confirmed(database):
    with _sqlite(database) as db:
        return db.execute("SELECT count(*) FROM job_changes").fetchone() == (0,)


def _salaries(database):
    with _sqlite(database) as db:
        return dict(db.execute("SELECT job_no, sal_minor FROM tbl_job WHERE sal_minor IS NOT NULL").fetchall())


@contextmanager
def _sqlite(database):
    db = sqlite3.connect(database, timeout=10)
    try:
        yield db
    finally:
        db.close()


@pytest.mark.aws
@pytest.mark.postgres
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([ALL], id="all at once"),
        pytest.param([*((each,) for each in ALL * 3), ALL, ALL], id="one after the other", marks=_SOAK),
    ],
)
def test_on_postgres_and_aws_whatever_is_killed_goes_on(tmp_path, postgres_server, moto_server, kills):
    moto_server.reset()
    name = f"jobs_{uuid4().hex[:12]}"
    dsn = postgres_server.dsn.rpartition("/")[0] + f"/{name}"
    bucket, s3, dynamodb = "job-events", moto_server.client("s3"), moto_server.client("dynamodb")
    asyncio.run(_prepare(postgres_server.dsn, name, dsn))

    read: dict[str, bytes] = {}

    def objects():
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    def lines():
        for key in objects():
            if key not in read:
                read[key] = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return [json.loads(line) for data in read.values() for line in data.splitlines()]

    options = ("--transport", "aws", "--endpoint-url", moto_server.url, "--database", dsn, "--slot", name)
    short = ("--visibility", "4", "--takeover", "2", "--view", "off", "--state", "app")
    with processes(tmp_path, *options, *short) as app:
        s3.create_bucket(Bucket=bucket)
        agency = ("--rate", "10", "--jobs", "40", "--seed", "5")
        for service in ALL[:3]:
            app.start(service)
        app.start("generate", *agency)
        for killed in kills:
            before = len(objects())
            wait_for(lambda: len(objects()) > before, log=app.log)  # noqa: B023 - called in the loop
            for each in killed:
                app.kill(each)
            for each in killed:
                app.start(each, *(agency if each == "generate" else ()))
        wait_for(lambda: len(objects()) > before, log=app.log)
        app.kill("generate")
        expected = set()

        def inventory():
            items = dynamodb.scan(TableName="job-events-inventory")["Items"]
            return {int(each["job_id"]["N"]) for each in items if "job" in each}

        def whole():
            for queue in DEAD_LETTERS.values():
                _redrive(moto_server, queue, app)
            nonlocal expected
            expected = asyncio.run(_witnessed(dsn, name))
            return {each["id"] for each in lines()} == expected and inventory() == asyncio.run(_jobs(dsn)).keys()

        wait_for(whole, log=app.log)
        found = lines()
        assert Counter(each["id"] for each in found) == dict.fromkeys(expected, 1)
        assert salaries(found) == asyncio.run(_pays(dsn))
        assert app.jobs() == asyncio.run(_jobs(dsn))
        codes = app.end()
        assert set(codes.values()) == {0}, app.log.read_text()[-3000:]
    asyncio.run(_drop(postgres_server.dsn, name))


def _redrive(moto, queue, app):
    sqs = moto.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    if found["Attributes"]["ApproximateNumberOfMessages"] != "0":
        app.output("redrive")


async def _prepare(admin, name, dsn):
    """A database with its slot, and a second slot, which nobody else reads: it bears witness of every change."""
    connection = await asyncpg.connect(admin)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    async with PostgresCapture(dsn, slot=name), PostgresCapture(dsn, slot=f"{name}_witness"):
        pass


async def _witnessed(dsn, name):
    """The ids of all events that there should be."""
    ids = set()
    async with PostgresCapture(dsn, slot=f"{name}_witness") as capture:
        async for batch in capture.changes(1000):
            for change in batch:
                try:
                    event = translate(change, capture.origin)
                except UntranslatableChange:
                    continue
                if event is not None:
                    ids.add(event.id)
    return ids


async def _jobs(dsn):
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT * FROM tbl_job WHERE sal_minor IS NOT NULL")
    await connection.close()
    return {each["job_no"]: (each["job_ttl"], each["empl_nm"], each["loc_txt"]) for each in rows}


async def _pays(dsn):
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT job_no, sal_minor FROM tbl_job WHERE sal_minor IS NOT NULL")
    await connection.close()
    return dict(map(tuple, rows))


async def _drop(admin, name):
    connection = await asyncpg.connect(admin)
    slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = ANY($1)"
    await connection.execute(slots, [name, f"{name}_witness"])
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()
