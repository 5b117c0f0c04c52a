"""The handler's own log lines carry the ids of its message, without a word of its own."""

from __future__ import annotations

import asyncio
import logging

import pytest
import structlog

from eip import Consumer, Message
from eip.telemetry import MessageContextFilter, add_message_context
from eip.testing import run as run_in_virtual_time
from eip.transports.memory import MemoryTransport


async def handled(log):
    """Have a message handled by a handler that writes a line."""
    async with MemoryTransport() as memory:
        queue, done = memory.queue("orders"), memory.queue("done")
        await queue.send(Message({"id": 7}, id="m-1", correlation_id="c-1"))

        async def handle(message):
            log("paid")
            return message

        consumer = Consumer(queue, handle, output=done)
        async with done.receiver() as receiver:
            running = asyncio.create_task(consumer.run())
            await receiver.receive(1)
            await consumer.stop()
            await running


@pytest.fixture
def events():
    found = []

    def keep(_logger, _method, event):
        found.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[add_message_context, keep])
    yield found
    structlog.reset_defaults()


def test_a_line_of_structlog_carries_them(events):
    run_in_virtual_time(handled(lambda event: structlog.get_logger().info(event, channel="mine")))
    assert events == [{"event": "paid", "message_id": "m-1", "correlation_id": "c-1", "channel": "mine", "attempt": 1}]


def test_a_record_of_the_standard_library_carries_them(caplog):
    caplog.handler.addFilter(MessageContextFilter())
    logger = logging.getLogger("shop")
    with caplog.at_level(logging.INFO, logger="shop"):
        run_in_virtual_time(handled(logger.info))
        logger.info("outside")
    inside, outside = (each for each in caplog.records if each.name == "shop")
    assert (inside.message_id, inside.correlation_id, inside.channel, inside.attempt) == ("m-1", "c-1", "orders", 1)
    assert outside.message_id is None


def test_outside_a_handler_nothing_is_added():
    assert add_message_context(None, "info", {"event": "started"}) == {"event": "started"}
