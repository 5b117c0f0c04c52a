"""The flow's graph and its live figures, without HTTP."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from eip import App, QueueSpec, Topology, topology
from eip.channels import Queue
from eip.console import Subject
from eip.console._layout import layered
from eip.console._rates import Rates
from eip.console.view import View
from eip.errors import ChannelNotFound, ConnectionLost
from eip.telemetry.families import Family, Sample
from eip.transports.memory import MemoryTransport
from tests.console.shop import ORDERS, fill, looked_at, make_shop, order, until


async def test_channels_and_handlers_are_a_graph_from_left_to_right():
    async with looked_at() as app:
        found = View(Subject.of(app)).flow.as_dict()
    layer = {each["id"]: each["layer"] for each in found["nodes"]}
    assert [(each["start"], each["end"]) for each in found["edges"]] == [
        ("topic news", "queue news-mail"),
        ("app", "queue orders"),
        ("queue orders", "handler orders"),
        ("handler orders", "queue bills"),
        ("queue bills", "handler bills"),
        ("queue news-mail", "handler news-mail"),
    ]
    assert all(layer[each["start"]] < layer[each["end"]] for each in found["edges"])
    assert {each["name"] for each in found["nodes"] if each["kind"] == "handler"} == {"price", "bill", "mail"}


async def test_rules_streams_and_targets_are_in_it():
    declared = Topology(
        topology.BusSpec("bus"),
        topology.RuleSpec("bus", "all"),
        topology.RuleSpec("bus", "to-topic", targets=(topology.TargetSpec(topic="t"),)),
        topology.TopicSpec("t"),
        topology.StreamSpec("clicks"),
    )
    app = App(MemoryTransport(), topology=declared)

    @app.consumer("clicks", subscription="count")
    async def count(_: object) -> None: ...

    async with looked_at(app):
        found = View(Subject.of(app)).flow.as_dict()
    edges = {(each["start"], each["end"]) for each in found["edges"]}
    assert edges == {
        ("bus bus", "queue bus-all"),
        ("bus bus", "topic t"),
        ("stream clicks", "handler clicks/count"),
    }


async def test_an_empty_application_has_an_empty_flow():
    app = App(MemoryTransport())
    async with app:
        view = View(Subject.of(app))
        await view.refresh()
        assert (view.flow.nodes, view.flow.edges) == ((), ())
        assert view.state()["nodes"] == {}
        assert view.dead_letter_queues() == []


def test_circles_and_large_graphs_have_places():
    assert layered(["a", "b"], [("a", "b"), ("b", "a"), ("a", "a")]) == {"a": (0, 0), "b": (1, 0)}
    dice = random.Random(3)
    nodes = [str(each) for each in range(3000)]
    edges = {(dice.choice(nodes), dice.choice(nodes)) for _ in range(4000)}
    places = layered(nodes, [*edges, *itertools.pairwise(nodes)])  # a path as long as the recursion limit
    assert len(set(places.values())) == len(nodes)


async def test_figures_are_live():
    app = make_shop()
    async with app:
        view = View(Subject.of(app), depth_interval=0.01)
        await view.refresh()
        await app.sender(ORDERS).send(*map(order, range(10)))
        await until(lambda: app.consumers[1].stats.received == 6 and not app.consumers[1].stats.in_flight)
        await asyncio.sleep(0.02)
        await view.refresh()
        nodes = view.state()["nodes"]
    price, bills, orders = nodes["handler orders"], nodes["handler bills"], nodes["queue orders"]
    assert (price["handled_total"], price["dead_lettered_total"], price["ok"]) == (6, 4, True)
    assert price["handled"] > 0 < price["dead_lettered"]
    assert price["p95"] > 0
    assert orders["sent"] > 0
    assert (orders["ready"], orders["dead"]) == (0, 4)
    assert bills["dead_lettered_total"] == 1  # of 1, 2, 4, 5, 7, 8
    assert orders["dead_letters"] == ["orders-dead"]


def test_rates_are_of_the_last_seconds():
    count = 0.0
    families = [Family("eip.sent.messages", "counter", "", "", lambda: [Sample({"channel": "q"}, count)])]
    rates = Rates()
    assert rates.per_second("sent", "q") is None
    for second in range(100):
        count += 5 if second < 50 else 1
        rates.sample(families, float(second))
    assert rates.per_second("sent", "q") == pytest.approx(1)
    assert rates.per_second("sent", "other") is None
    assert len(rates._samples) <= 12


class _Failing(MemoryTransport):
    """Queues that cannot tell, are gone, or do not answer."""

    def queue(self, name: str, **options: object) -> Queue:  # type: ignore[override]
        queue = super().queue(name, **options)
        if name == "gone":
            queue.depth = self._gone
        elif name == "silent":
            queue.depth = self._silent  # type: ignore[assignment]
        elif name == "down":
            queue.depth = self._down
        return queue

    async def _gone(self) -> dict[str, int]:
        raise ChannelNotFound("no such queue")

    async def _silent(self) -> None:
        return None

    async def _down(self) -> dict[str, int]:
        raise ConnectionLost("no answer")


async def test_queues_that_are_gone_or_cannot_tell_do_not_hide_the_others():
    names = ("gone", "silent", "down", "well")
    app = App(_Failing(), topology=Topology(*(QueueSpec(each) for each in names)))
    async with looked_at(app):
        view = View(Subject.of(app))
        await fill(app, 3, dead="well-dead")
        await view.refresh()
        nodes = view.state()["nodes"]
    assert nodes["queue gone"]["gone"]
    assert "no such queue" in nodes["queue gone"]["error"]
    assert (nodes["queue silent"]["known"], nodes["queue silent"]["total"]) == (True, None)
    assert nodes["queue down"]["error"] == "ConnectionLost: no answer"
    assert not nodes["queue down"]["gone"]
    assert (nodes["queue well"]["total"], nodes["queue well"]["dead"]) == (0, 3)


async def test_a_queue_that_does_not_answer_keeps_nobody_waiting(monkeypatch):
    app = App(MemoryTransport(), topology=Topology(QueueSpec("slow"), QueueSpec("well")))
    async with looked_at(app):
        view = View(Subject.of(app))

        async def never() -> dict[str, int]:
            await asyncio.sleep(1000)
            return {}

        monkeypatch.setattr(app.transport.queue("slow"), "depth", never)
        began = asyncio.get_running_loop().time()
        await view.refresh()
        assert asyncio.get_running_loop().time() - began < 1
        assert view.state()["nodes"]["queue slow"]["known"] is False
        await asyncio.sleep(5)
        nodes = view.state()["nodes"]
        assert (nodes["queue slow"]["error"], nodes["queue well"]["total"]) == ("no answer within 5 s", 0)
        await view.refresh()
        await view.aclose()


async def test_an_application_that_is_only_looked_at_is_not_shown_as_failing():
    async with looked_at() as app:
        view = View(Subject.of(app))
        await view.refresh()
        state = view.state()
    assert state["parts"] == [{"name": "transport", "ok": True}]
    assert state["nodes"]["handler orders"]["ok"] is None
