"""The parts by themselves: translation, publisher, lake, inventory tables, view."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from aiobotocore.session import get_session
from rich.console import Console

from eip import Message
from eip import Topic as EipTopic
from eip.errors import ConnectionLost, FailedEntry, InvalidMessage, MessageTooLarge, PartialSendError, StoreError
from eip.stores import MemoryStore
from eip.stores.objects import MemoryObjects
from eip.testing import run
from eip.transports.memory import MemoryTransport
from examples.job_events import channels as names
from examples.job_events.analytics import Analytics
from examples.job_events.changes import CaptureError, Change, ChangeCapture, Operation, Position
from examples.job_events.channels import topology
from examples.job_events.inventory import Job
from examples.job_events.inventory_tables import DynamoInventory, SqliteInventory
from examples.job_events.lake import Lake, Line
from examples.job_events.model import JobCreated, JobDeleted, JobSalaryUpdated, message_of
from examples.job_events.publisher import Publisher
from examples.job_events.translation import UntranslatableChange, translate
from examples.job_events.view import Parts, View
from examples.job_events.wiring import TransportChannels

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROW = {
    "job_no": 7,
    "job_ttl": " Cook ",
    "empl_nm": "Hotel",
    "loc_txt": "Graz",
    "sal_minor": "4000050",
    "sal_ccy": "EUR",
}


def change(commit, before, after):
    operation: Operation = "insert" if before is None else "delete" if after is None else "update"
    return Change(position=Position(commit, 0), operation=operation, before=before, after=after, committed_at=NOON)


def event_message(of):
    event = translate(of, "db")
    assert event is not None
    return message_of(event)


# Translation.


def test_row_changes_become_events_in_the_terms_of_the_business():
    created = translate(change(1, None, ROW), "db")
    assert isinstance(created, JobCreated)
    assert (created.job_id, created.title, created.salary.amount) == (7, "Cook", Decimal("40000.50"))
    updated = translate(change(2, ROW, {**ROW, "sal_minor": 5_000_000}), "db")
    assert isinstance(updated, JobSalaryUpdated)
    assert (updated.before.amount, updated.salary.amount) == (Decimal("40000.50"), Decimal(50_000))
    assert isinstance(translate(change(3, {"job_no": "7"}, None), "db"), JobDeleted)
    assert translate(change(4, ROW, {**ROW, "rec_note": "called back"}), "db") is None


def test_a_row_that_is_no_job_is_refused_without_telling_what_it_holds():
    with pytest.raises(UntranslatableChange, match="sal_minor") as refused:
        translate(change(1, None, {**ROW, "sal_minor": "secret"}), "db")
    assert "secret" not in str(refused.value)


def test_a_job_is_created_once_its_row_can_be_understood():
    assert isinstance(translate(change(1, {**ROW, "sal_minor": None}, ROW), "db"), JobCreated)


def test_a_message_has_group_deduplication_id_type_attribute_and_subject():
    message = event_message(change(255, None, ROW))
    assert message.group_id == "JOB-7"
    assert message.deduplication_id == message.id == "db:00000000000000FF-00000000"
    assert message.attributes == {"eventType": "JobCreated"} == {"eventType": message.type}
    assert message.headers["subject"] == "Job 7 created: Cook, Hotel"
    assert json.loads(message.encode())["salary"] == {"amount": "40000.50", "currency": "EUR"}


# Publisher.


class Scripted(ChangeCapture):
    """Gives changes until they are confirmed; fails where told."""

    origin = "db"

    def __init__(self, changes, *, failures=0):
        self.left, self.failures, self.opened = list(changes), failures, 0

    async def open(self):
        self.opened += 1

    async def aclose(self):
        return

    async def changes(self, most):
        if self.failures:
            self.failures -= 1
            raise CaptureError("the database is away")
        if self.left:
            yield self.left[:most]

    async def confirm(self, position):
        self.left = [each for each in self.left if each.position > position]

    async def behind(self):
        return str(len(self.left))


class Topic(EipTopic):
    """Accepts what it is sent, after it did what the script says."""

    def __init__(self, *script):
        self.script, self.accepted, self.calls = list(script), [], []

    def subscription(self, name, *, filter=None):  # noqa: A002
        raise NotImplementedError

    async def send(self, *messages):
        self.calls.append([each.id for each in messages])
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if step is not None:
            messages = step(messages, self.accepted)
        self.accepted += messages


async def published(capture, topic):
    """Publish all there is; what was put aside."""
    async with MemoryTransport() as memory:
        channels = TransportChannels(memory)
        channels.topic = topic
        publisher = Publisher(capture, channels)
        task = asyncio.create_task(publisher.run())
        while capture.left:
            await asyncio.sleep(1)
        await publisher.stop()
        await task
        return publisher, memory.queue(names.INVALID).messages()


def created(*commits):
    return [change(commit, None, {**ROW, "job_no": commit}) for commit in commits]


def test_what_was_not_accepted_is_sent_again_and_what_was_is_not():
    def middle_fails(messages, accepted):
        accepted += [messages[0], messages[2]]
        raise PartialSendError([FailedEntry(messages[1], ConnectionLost("no answer"))], sent=2)

    topic = Topic(middle_fails)
    publisher, aside = run(published(Scripted(created(1, 2, 3)), topic))
    assert topic.calls[1] == topic.calls[0][1:2]
    assert (len(topic.accepted), aside, publisher.published) == (3, [], 3)


def test_while_the_topic_fails_nothing_is_confirmed_and_all_is_sent_again_with_the_same_ids():
    capture = Scripted(created(1, 2))

    def not_confirmed(messages, _):
        assert len(capture.left) == 2
        return messages

    topic = Topic(ConnectionLost("gone"), ConnectionLost("gone"), not_confirmed)
    publisher, _ = run(published(capture, topic))
    assert topic.calls[0] == topic.calls[1] == topic.calls[2]
    assert publisher.failures == 2


def test_a_database_that_is_away_is_connected_to_again():
    capture = Scripted(created(1), failures=3)
    publisher, _ = run(published(capture, Topic()))
    assert (capture.opened, publisher.failures, publisher.published) == (4, 3, 1)


def test_what_is_no_event_and_what_no_topic_carries_is_put_aside_and_the_rest_goes_on():
    bad = change(2, None, {**ROW, "sal_minor": None})

    def one_is_too_large(messages, accepted):
        if any(each.id.endswith("3-00000000") for each in messages):
            raise MessageTooLarge(300_000, 262_144)
        return messages

    def one_is_refused(messages, accepted):
        accepted += messages[:-1]
        raise PartialSendError([FailedEntry(messages[-1], InvalidMessage("refused"))], sent=len(messages) - 1)

    topic = Topic(*[one_is_too_large] * 3, one_is_refused)
    publisher, aside = run(published(Scripted([*created(1), bad, *created(3, 4)]), topic))
    assert [each.group_id for each in topic.accepted] == ["JOB-1"]
    assert [each.id[-17:] for each in aside] == [f"0000000{each}-00000000" for each in (2, 3, 4)]
    assert "sal_minor" in aside[0].headers["invalid-reason"]
    assert aside[0].body["after"]["job_no"] == 7
    assert publisher.put_aside == 3


def test_a_publisher_whose_topic_is_away_can_be_stopped():
    async def scenario():
        async with MemoryTransport() as memory:
            channels = TransportChannels(memory)
            channels.topic = Topic(*[ConnectionLost("gone")] * 1000)
            capture = Scripted(created(1))
            publisher = Publisher(capture, channels)
            task = asyncio.create_task(publisher.run())
            await asyncio.sleep(60)
            await publisher.stop()
            await asyncio.wait_for(task, 1)
            return len(capture.left)

    assert run(scenario()) == 1


def test_what_the_services_have_not_handled_yet_is_not_confirmed_where_the_channels_forget():
    async def scenario():
        async with MemoryTransport() as memory:
            channels = TransportChannels(memory)
            channels.topic = topic = Topic()
            channels.settled = asyncio.Event().wait  # type: ignore[assignment]
            capture = Scripted(created(1))
            publisher = Publisher(capture, channels)
            task = asyncio.create_task(publisher.run())
            await asyncio.sleep(60)
            assert (len(topic.accepted), len(capture.left)) == (1, 1)
            await publisher.stop()
            await task
            assert len(capture.left) == 1

    run(scenario())


# Analytics and its lake.


class Dies(Exception):
    """As kill -9."""


def dying(inner, after):
    """A store or object store that dies at the given call, before or after it took effect."""

    class Dying:
        calls = 0

        def __getattr__(self, name):
            async def call(*arguments, **options):
                Dying.calls += 1
                if Dying.calls == after // 2 and after % 2 == 0:
                    raise Dies
                answer = await getattr(inner, name)(*arguments, **options)
                if Dying.calls == after // 2:
                    raise Dies
                return answer

            return call

    return Dying()


def found_in(objects):
    return sorted(line for data in objects.objects.values() for line in data.decode().splitlines())


@pytest.mark.parametrize("dies_at", range(2, 22))
@pytest.mark.parametrize("dies_in", ["store", "objects"])
def test_wherever_a_writer_dies_each_line_is_in_one_object_in_the_end(dies_at, dies_in):
    lines = [Line(str(each), f"2026-01-0{1 + each % 2}", f"line {each}") for each in range(5)]

    async def scenario():
        store, objects = MemoryStore(), MemoryObjects()
        first = Lake(
            dying(objects, dies_at) if dies_in == "objects" else objects,
            dying(store, dies_at) if dies_in == "store" else store,
        )
        with contextlib.suppress(Dies):
            await first.add("first", lines[:3])
        second = Lake(objects, store)
        await second.add("second", lines[2:])  # redelivered among others
        await second.add("third", lines)
        await asyncio.sleep(61)
        await second.take_over()
        assert await store.next_due() is None
        assert found_in(objects) == [each.text for each in lines]
        assert all(key.split("/")[1] in ("2026-01-01", "2026-01-02") for key in objects.objects)
        assert await second.take_over() == 0

    run(scenario())


def test_analytics_writes_ten_at_a_time_and_dead_letters_only_what_it_cannot_read():
    async def scenario():
        async with MemoryTransport() as memory:
            await topology().apply(memory)
            channels = TransportChannels(memory)
            lake = Lake(MemoryObjects(), MemoryStore())
            analytics = Analytics(channels, lake)
            await memory.topic(names.TOPIC).send(
                *(event_message(each) for each in created(*range(1, 26))),
                Message({"type": "JobMoved"}, id="strange", group_id="JOB-1"),
            )
            task = asyncio.create_task(analytics.run())
            await asyncio.sleep(100)
            await analytics.stop()
            await task
            assert lake.lines == 25
            assert lake.objects == 3
            (strange,) = memory.queue(names.DEAD_LETTERS["analytics"]).messages()
            assert strange.body == {"type": "JobMoved"}

    run(scenario())


def test_a_batch_of_large_events_is_noted_in_parts_that_a_store_takes():
    async def scenario():
        async with MemoryTransport() as memory:
            await topology().apply(memory)
            lake = Lake(MemoryObjects(), MemoryStore())
            analytics = Analytics(TransportChannels(memory), lake)
            large = [change(each, None, {**ROW, "job_no": each, "job_ttl": "x" * 200_000}) for each in range(1, 6)]
            await memory.topic(names.TOPIC).send(*(event_message(each) for each in large))
            task = asyncio.create_task(analytics.run())
            await asyncio.sleep(10)
            await analytics.stop()
            await task
            assert (lake.lines, lake.objects) == (5, 5)

    run(scenario())


# Inventory.


async def a_table_takes_only_what_is_later(table):
    job = Job(job_id=1, title="Cook", employer="Hotel", city="Graz")
    assert await table.record(1, str(Position(5, 0)), job)
    assert not await table.record(1, str(Position(5, 0)), job)  # redelivered
    assert [each async for each in table.available()] == [job]
    assert await table.record(1, str(Position(9, 0)), None)
    assert not await table.record(1, str(Position(5, 0)), job)  # replayed out of order
    assert [each async for each in table.available()] == []
    assert await table.record(2, str(Position(10, 0)), None)  # its creation comes late
    assert not await table.record(2, str(Position(9, 1)), job.model_copy(update={"job_id": 2}))
    assert await table.record(1, str(Position(16, 0)), job)
    assert [each async for each in table.available()] == [job]


async def test_the_inventory_in_sqlite(tmp_path):
    table = SqliteInventory(tmp_path / "inventory.sqlite")
    await a_table_takes_only_what_is_later(table)
    table.close()
    with pytest.raises(StoreError):
        await table.record(1, "1", None)


@pytest.mark.aws
async def test_the_inventory_in_dynamodb(moto_server):
    options = {"region_name": moto_server.region, "endpoint_url": moto_server.url}
    async with get_session().create_client("dynamodb", **options) as client:
        table = DynamoInventory(client, "inventory-of-parts")
        await table.create()
        await table.create()
        await a_table_takes_only_what_is_later(table)
        with pytest.raises(StoreError):
            await DynamoInventory(client, "missing").record(1, "1", None)


# View.


def test_the_view_shows_counts_queues_and_dead_letters():
    async def scenario():
        async with MemoryTransport() as memory:
            await topology().apply(memory)
            channels = TransportChannels(memory)

            async def depth(name):
                return len(memory.queue(name))

            channels.depth = depth
            await memory.queue(names.DEAD_LETTERS["analytics"]).send(Message(1, group_id="g"))
            publisher = Publisher(Scripted(created(1, 2)), channels)
            lake = Lake(MemoryObjects(), MemoryStore())
            parts = Parts(channels=channels, publisher=publisher, analytics=Analytics(channels, lake))
            output = io.StringIO()
            view = View(parts, title="Job events", console=Console(file=output, width=120, force_terminal=False))
            services: list[Any] = [view, publisher, parts.analytics]
            tasks = [asyncio.create_task(each.run()) for each in services]
            await asyncio.sleep(3)
            for each in services:
                await each.stop()
            await asyncio.gather(*tasks)
            Console(file=output, width=120).print(view.render())
            return output.getvalue()

    text = run(scenario())
    assert "publisher 2 (" in text
    assert "dead letters 1" in text
    assert "AnalyticsJobEvents.fifo" in text
    assert "Job 1 created: Cook, Hotel" in text
