"""The RFQ service on ActiveMQ: the broker's topics and queues, the state in an SQLite file that processes share."""

from __future__ import annotations

import asyncio

import pytest

from eip import Message
from eip.console import Console
from eip.console._jobs import ended
from eip.console._selection import Selection
from eip.errors import AddressRefused, ConfigurationError
from eip.stores import MemoryStore
from examples.rfq.booking import RideBooking
from examples.rfq.herd import Herd
from examples.rfq.model import QuoteRequest, RideRequest
from examples.rfq.store import States
from examples.rfq.unicorns import Unicorns
from examples.rfq.wiring import connected
from tests.examples.rfq.sharing import killing_again_and_again, killing_one_loses_nothing

pytestmark = pytest.mark.activemq

RIDE = RideRequest.model_validate({"from": "A", "to": "B", "customer": "C"})


def test_two_processes_share_rfqs_and_killing_one_loses_none(start_activemq, tmp_path):
    options = ("--transport", "activemq", "--endpoint-url", start_activemq().url)
    killing_one_loses_nothing(str(tmp_path / "rfq.sqlite"), 6, *options)


@pytest.mark.soak
def test_two_processes_killed_again_and_again(start_activemq, tmp_path):
    options = ("--transport", "activemq", "--endpoint-url", start_activemq().url)
    killing_again_and_again(str(tmp_path / "rfq.sqlite"), 10, *options)


async def test_unicorns_answer_to_reply_queues_only_and_what_they_may_not_answer_is_kept(start_activemq):
    async with connected("activemq", start_activemq().url) as channels:
        unicorns = Unicorns(channels)
        herd = Herd(unicorns, size=1, seed=3, patience=0.1)
        herd.unicorns[0].reliability = 2.0
        position = herd.unicorns[0].position
        booking = RideBooking(channels, States(MemoryStore(), MemoryStore(), MemoryStore()))
        async with asyncio.TaskGroup() as tasks:
            for service in (booking, unicorns, herd):
                tasks.create_task(service.run())
            while not await booking.unicorns():
                await asyncio.sleep(0.05)
            question = QuoteRequest(ride=RIDE, start=position, to=position)
            hostile, own = "activemq:queue/loot", channels.replies.address
            await channels.zone(position.zone).send(
                Message(question, correlation_id="hostile", return_address=hostile),
                Message(question, correlation_id="r", return_address=own),
            )
            async with channels.unreadable.receiver() as receiver:
                (refused,) = await receiver.receive(1, wait=30.0)
                assert refused.message.correlation_id == "hostile"
            while not booking.late:  # the answer to the other came, to no RFQ that is known
                await asyncio.sleep(0.05)
            assert channels.return_addresses.refused >= 1
            view = Console(booking.subject()).view
            await view.refresh()
            queues = [node for node in view.state()["nodes"].values() if "total" in node]
            assert {(node["known"], node["total"], node["dead"]) for node in queues} == {(True, None, None)}
            await asyncio.gather(booking.stop(), herd.stop(), unicorns.stop())
        with pytest.raises(AddressRefused):
            channels.return_addresses.resolve(channels.presence.address)


async def test_dead_letters_are_shown_and_redriven_though_a_broker_does_not_tell_how_many(start_activemq):
    async with connected("activemq", start_activemq().url) as channels:
        booking = RideBooking(channels, States(MemoryStore(), MemoryStore(), MemoryStore()))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(booking.run())
            await booking.ready.wait()
            await channels.presence.send(Message({"unicorn": "u1"}, type="Presence", source="u1"))
            console = Console(booking.subject())
            while not (letters := (await console.view.letters.look("rfq-presence-dead")).letters):
                await asyncio.sleep(0.05)
            assert "Field required" in letters[0].reason
            chosen = Selection(keys=frozenset((letters[0].key,)))
            job = await console.operations.redrive("rfq-presence-dead", chosen, by="ada")
            assert (await ended(job, within=30)).moved == 1
            await booking.stop()


async def test_a_broker_must_be_named():
    with pytest.raises(ConfigurationError, match="endpoint-url"):
        async with connected("activemq"):
            pass
