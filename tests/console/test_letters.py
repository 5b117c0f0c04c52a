"""Dead letters, looked at and grouped, without HTTP."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from eip import App, Message, QueueSpec, Topology
from eip.console import Redaction, Subject
from eip.console._identity import kind_of
from eip.console.redaction import MASK
from eip.console.view import View
from eip.errors import Conflict
from eip.transports.memory import MemoryTransport
from eip.transports.memory.queue import MemoryQueue
from tests.console.shop import DEAD, ORDERS, fill, looked_at, make_shop, order, until


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ValueError: order 12 has no price", "ValueError: order 7,345.10 has no price"),
        ("KeyError: 'a'", "KeyError: 'bcd'"),
        ("no user 0f8fad5b-d9cb-469f-a165-70867728950e", "no user 7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        ("digest deadbeef01 is wrong", "digest 0123456789abcdef is wrong"),
        ("at 2026-11-27 10:00", "at 2026-01-01 23:59"),
    ],
)
def test_reasons_that_differ_in_values_are_one_kind(one, other):
    assert kind_of(one) == kind_of(other)
    assert kind_of(one) != kind_of("ValueError: something else")
    assert len(kind_of(one * 1000)) <= 160


async def test_what_a_handler_could_not_do_is_grouped_with_its_reason_handler_and_stack():
    app = make_shop()
    async with app:
        view = View(Subject.of(app))
        await app.sender(ORDERS).send(*map(order, range(10)))
        await until(lambda: app.consumers[1].stats.received == 6 and not app.consumers[1].stats.in_flight)
        look = await view.letters.look(DEAD)
        (group,) = look.groups
        assert (group.reason, group.handlers, group.source, group.count) == (
            "ValueError: order … has no price",
            ("price",),
            ORDERS,
            4,
        )
        letter = await view.letter(DEAD, look.letters[0].key)
        assert letter["reason"] == "ValueError: order 0 has no price"
        assert letter["attempts"] == "1"
        assert letter["failed_on"] == ORDERS
        assert "shop.py" in letter["stack"]
        assert "has no price" in letter["stack"]
        (bills,) = (await view.letters.look("bills-dead")).groups
        assert bills.reason == "Reject: customer … does not pay"
        only = await view.letter("bills-dead", view.letters.letters("bills-dead")[0].key)
        assert only["stack"] is None  # the handler decided so


async def test_a_look_leaves_messages_and_counts_as_they_are():
    async with looked_at() as app:
        await fill(app, 3)
        view = View(Subject.of(app))
        for _ in range(3):
            assert not (await view.letters.look(DEAD)).is_receive
        queue = app.transport.queue(DEAD)
        assert await queue.depth() == {"ready": 3, "delayed": 0, "leased": 0}
        async with queue.receiver() as receiver:
            assert [each.receive_count for each in await receiver.receive(3)] == [1, 1, 1]


async def test_where_a_look_is_a_receive_it_is_told_bounded_and_kept(monkeypatch):
    monkeypatch.setattr(MemoryQueue, "peek_is_receive", True)
    monkeypatch.setattr(MemoryQueue, "peek", super(MemoryQueue, MemoryQueue).peek)
    async with looked_at() as app:
        await fill(app, 600)
        view = View(Subject.of(app))
        look = await view.letters.look(DEAD)
        assert look.is_receive
        assert not look.is_complete
        assert len(look.letters) == 500
        for each in look.letters[:3]:
            await view.letter(DEAD, each.key)  # from what was kept
        async with app.transport.queue(DEAD).receiver(capacity=600) as receiver:
            counts = [each.receive_count for each in await receiver.receive(600)]
        assert sorted(set(counts)) == [1, 2]
        assert counts.count(2) == 501
        view.letters.busy.add(DEAD)
        with pytest.raises(Conflict, match="being moved"):
            await view.letters.look(DEAD)


async def test_ten_thousand_letters_are_paged_and_bounded():
    async with looked_at() as app:
        await fill(app, 10_001)
        view = View(Subject.of(app))
        look = await view.letters.look(DEAD)
        assert (len(look.letters), look.is_complete, len(look.groups)) == (10_000, False, 1)
        first, last = view.page(DEAD), view.page(DEAD, page=10**9)
        assert (len(first["letters"]), first["pages"], last["page"], first["count"]) == (50, 200, 200, 10_000)
        found = view.page(DEAD, text="ORDER 77 ")
        assert [each["id"] for each in found["letters"]] == ["m77"]
        assert view.page(DEAD, group="none")["count"] == 0


async def test_large_bodies_bound_what_a_look_keeps():
    async with looked_at() as app:
        view = View(Subject.of(app))
        view.letters._max_bytes = 100_000
        for _ in range(10):
            await app.transport.queue(DEAD).send(Message("x" * 30_000))
        look = await view.letters.look(DEAD)
        assert (len(look.letters), look.is_complete) == (4, False)
        assert look.size < 130_100


async def test_looks_at_many_queues_are_forgotten_the_oldest_first():
    app = App(MemoryTransport(), topology=Topology(*(QueueSpec(f"q{n}") for n in range(8))))
    async with looked_at(app):
        view = View(Subject.of(app))
        view.letters._max_bytes = 1000
        for number in range(8):
            await app.transport.queue(f"q{number}-dead").send(Message("x" * 990))
            await view.letters.look(f"q{number}-dead")
        assert [view.letters.last_look(f"q{n}-dead") is not None for n in range(8)] == [False] * 4 + [True] * 4
        gc.collect()


async def only(view: View) -> str:
    """The key of the one dead letter."""
    (letter,) = (await view.letters.look(DEAD)).letters
    return letter.key


async def test_messages_of_other_programs_may_all_have_one_id():
    async with looked_at() as app:
        for number in range(3):
            await app.transport.queue(DEAD).send(Message.received(b"%d" % number, id="1", created_at=1.0))
        view = View(Subject.of(app))
        look = await view.letters.look(DEAD)
        assert len(look.kept) == len(look.letters) == 3
        assert [(await view.letter(DEAD, each.key))["body"]["text"] for each in look.letters] == ["0", "1", "2"]


BODIES = {
    "json": ({"n": 1, "password": "hunter2"}, "json", '{\n  "n": 1,\n  "password": "•••"\n}'),
    "text": (b"password=hunter2 is no JSON", "text", "password=••• is no JSON"),
    "broken json": (b'{"password": "hunter2", ', "text", '{"password": •••, '),
    "binary": (b"\xff\x00\xfe", "binary", "ff 00 fe"),
    "markup": ("<script>alert(1)</script>", "json", '"<script>alert(1)</script>"'),
    "empty": (b"", "text", ""),
    "deep": (b"[" * 100_000, "text", None),
    "large integer": (b'{"n": 123456789012345678901234567890}', "json", None),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_shown_whatever_it_is(name):
    body, kind, shown = BODIES[name]
    async with looked_at() as app:
        view = View(Subject.of(app))
        await app.transport.queue(DEAD).send(Message(body, id="it"))
        found = (await view.letter(DEAD, await only(view)))["body"]
    assert found["kind"] == kind
    if shown is not None:
        assert found["text"] == shown
    if name == "large integer":
        assert "123456789012345678901234567890" in found["text"]


@pytest.mark.parametrize("what", ["json", "text", "binary"])
async def test_ten_megabytes_are_shown_bounded(what):
    pattern = {"json": b'"' + b"a" * 9 + b'",', "text": "ä text, ".encode(), "binary": b"\xff" * 10}[what]
    raw = pattern * (10 * 1024 * 1024 // len(pattern))
    if what == "json":
        raw = b'{"secret": "hunter2", "list": [' + raw + b"0]}"
    large = QueueSpec(DEAD, dead_letters=False, max_message_bytes=20_000_000)
    app = App(MemoryTransport(), topology=Topology(QueueSpec(ORDERS, dead_letters=DEAD), large))
    async with looked_at(app):
        view = View(Subject.of(app))
        await app.transport.queue(DEAD).send(Message.received(raw, id="it"))
        found = (await view.letter(DEAD, await only(view)))["body"]
    assert (found["kind"], found["size"], found["is_cut"], found["is_editable"]) == (what, len(raw), True, False)
    assert len(found["text"]) <= 64 * 1024
    assert "hunter2" not in found["text"]


async def test_attributes_headers_and_reasons_are_redacted_and_exact():
    async with looked_at() as app:
        view = View(Subject.of(app), Redaction())
        attributes: dict[str, Any] = {"token": "abc", "n": 2**60, "raw": b"\x01\x02", "f": 1.5, "list": ["a", "b"]}
        headers = {"dead-letter-reason": "wrong password=hunter2", "x-api-key": "k"}
        await app.transport.queue(DEAD).send(Message(1, id="it", attributes=attributes, headers=headers))
        found = await view.letter(DEAD, await only(view))
    assert found["attributes"] == {"token": MASK, "n": str(2**60), "raw": "01 02", "f": 1.5, "list": ["a", "b"]}
    assert found["reason"] == f"wrong password={MASK}"
    assert found["headers"] == {"x-api-key": MASK}
    assert "hunter2" not in str(view.dead_letter_queues())


async def test_markup_and_huge_names_are_bounded():
    async with looked_at() as app:
        view = View(Subject.of(app))
        long = "<b>" * 20_000
        headers = {"dead-letter-source": long, "dead-letter-reason": long, "dead-letter-count": long}
        await app.transport.queue(DEAD).send(Message(1, id=long, type=long, correlation_id=long, headers=headers))
        look = await view.letters.look(DEAD)
        assert (
            max(len(str(value)) for each in look.letters for value in (each.id, each.type, each.reason, each.source))
            <= 300
        )
        letter = await view.letter(DEAD, look.letters[0].key)
        assert len(str(letter)) < 40_000


async def test_a_letter_that_is_gone_is_not_there():
    async with looked_at() as app:
        await fill(app, 1)
        view = View(Subject.of(app))
        with pytest.raises(LookupError):
            await view.letter(DEAD, "another")
        with pytest.raises(LookupError):
            await view.letter(ORDERS, "m0")  # no queue of dead letters
