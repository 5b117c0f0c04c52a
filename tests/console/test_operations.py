"""What operators change, without HTTP: nothing is lost, everything is in the audit log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eip import App, Message, QueueSpec, Topology
from eip.console import Console
from eip.console._jobs import Job, Jobs
from eip.console._selection import Selection
from eip.errors import ConfigurationError, Conflict, StoreError
from eip.transports.memory import MemoryTransport
from tests.console.shop import DEAD, ORDERS, fill, keys, looked_at

BY: dict[str, Any] = {"by": "ada"}


@asynccontextmanager
async def console_of(app: App | None = None, **options: Any) -> AsyncIterator[tuple[App, Console]]:
    async with looked_at(app) as opened:
        console = Console(opened, **options)
        yield opened, console
        await console.aclose()


async def end(job: Job) -> Job:
    assert job.task is not None
    await job.task
    return job


def bodies(app: App, queue: str) -> list[Any]:
    return [each.body for each in app.transport.queue(queue).messages()]  # type: ignore[attr-defined]


async def test_a_redrive_sends_back_and_takes_off():
    async with console_of() as (app, console):
        await fill(app, 25)
        job = await end(await console.operations.redrive(DEAD, Selection(), **BY))
        assert (job.status, job.moved, job.failed, job.left) == ("done", 25, 0, 0)
        (back, *_) = app.transport.queue(ORDERS).messages()  # type: ignore[attr-defined]
        assert len(bodies(app, ORDERS)) == 25
        assert not bodies(app, DEAD)
        assert not back.headers
        assert back.attributes["token"] == "t0ps"


@pytest.mark.parametrize(
    ("selection", "moved"),
    [
        ({"keys": ["m1", "m3", "absent"]}, 2),
        ({"filter": {"country": ["de"]}}, 5),
        ({"filter": '{"n": [{"numeric": ["<", 2]}]}', "scope": "body"}, 2),
        ({"filter": {"country": ["fr"]}}, 0),
    ],
)
async def test_some_are_redriven_and_the_others_stay(selection, moved):
    async with console_of() as (app, console):
        await fill(app, 5)
        await console.view.letters.look(DEAD)
        if "keys" in selection:
            selection = {"keys": [*keys(console, *selection["keys"]), "absent"]}
        job = await end(await console.operations.redrive(DEAD, Selection.parse(selection), **BY))
        assert (job.moved, job.left) == (moved, 0)
        assert (len(bodies(app, ORDERS)), len(bodies(app, DEAD))) == (moved, 5 - moved)


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": []},
        {"keys": "m1"},
        {"keys": [1]},
        {"keys": ["x"] * 10_001},
        {"group": 1},
        {"filter": "no json"},
        {"filter": {"a": "no list"}},
        {"filter": {"a": ["b"]}, "scope": "head"},
        {"filter": ["a"]},
    ],
)
def test_a_selection_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        Selection.parse(wrong)


async def test_a_group_is_redriven_beyond_what_was_looked_at():
    async with console_of() as (app, console):
        console.view.letters._max_letters = 3
        await fill(app, 5)
        other = {"dead-letter-reason": "KeyError: 'x'", "dead-letter-source": ORDERS}
        await app.transport.queue(DEAD).send(Message("other", headers=other))
        (group,) = (await console.view.letters.look(DEAD)).groups
        job = await end(await console.operations.redrive(DEAD, Selection(group=group.key), **BY))
        assert (job.total, job.moved, job.left) == (None, 5, 0)
        assert bodies(app, DEAD) == ["other"]


async def test_messages_of_several_queues_go_back_each_to_its_own():
    topology = Topology(
        QueueSpec("a", dead_letters="dead"), QueueSpec("b", dead_letters="dead"), QueueSpec("dead", dead_letters=False)
    )
    async with console_of(App(MemoryTransport(), topology=topology)) as (app, console):
        dead = app.transport.queue("dead")
        for source in ("a", "b", "b", "c"):
            await dead.send(Message(source, headers={"dead-letter-source": source, "dead-letter-reason": "x"}))
        await dead.send(Message("nobody knows"))
        job = await end(await console.operations.redrive("dead", Selection(), **BY))
        assert (job.moved, bodies(app, "a"), bodies(app, "b")) == (3, ["a"], ["b", "b"])
        assert bodies(app, "dead") == ["c", "nobody knows"]
        job = await end(await console.operations.redrive("dead", Selection(), to="a", **BY))
        assert (job.moved, bodies(app, "dead")) == (2, [])
        with pytest.raises(ConfigurationError, match="to must be one of the queues"):
            await console.operations.redrive("dead", Selection(), to="dead", **BY)


async def test_within_a_message_group_nothing_overtakes():
    app = App(MemoryTransport(), topology=Topology(QueueSpec("q.fifo")))
    async with console_of(app) as (_, console):
        dead = app.transport.queue("q-dead.fifo")
        for name in ("a1", "b1", "a2"):
            await dead.send(Message(name, id=name, group_id=name[0], headers={"dead-letter-source": "q.fifo"}))
        look = await console.view.letters.look("q-dead.fifo")
        later = Selection(keys=frozenset(each.key for each in look.letters if each.id == "a2"))
        job = await end(await console.operations.redrive("q-dead.fifo", later, **BY))
        assert (job.moved, job.failed) == (0, 0)
        assert bodies(app, "q-dead.fifo") == ["a1", "b1", "a2"]
        job = await end(await console.operations.redrive("q-dead.fifo", Selection(), **BY))
        assert job.moved == 3
        assert [each for each in bodies(app, "q.fifo") if each[0] == "a"] == ["a1", "a2"]


async def test_a_redrive_keeps_its_rate_and_can_be_cancelled():
    async with console_of() as (app, console):
        await fill(app, 50)
        job = await console.operations.redrive(DEAD, Selection(), rate=5, **BY)
        while not job.moved:
            await asyncio.sleep(0.01)
        with pytest.raises(Conflict, match="redrive of orders-dead is under way, begun by ada"):
            await console.operations.redrive(DEAD, Selection(), **BY)
        await console.operations.cancel_job(job.id, by="eve")
        await end(job)
        assert job.status == "cancelled"
        assert 0 < job.moved < 10
        assert len(bodies(app, DEAD)) + len(bodies(app, ORDERS)) == 50
        assert len(bodies(app, ORDERS)) == job.moved
        for wrong in (0, -1, float("nan"), 1e9):
            with pytest.raises(ConfigurationError, match="rate must be"):
                await console.operations.redrive(DEAD, Selection(), rate=wrong, **BY)


async def test_an_edited_message_keeps_its_id_what_was_masked_and_types():
    async with console_of() as (app, console):
        await fill(app, 2)
        await console.view.letters.look(DEAD)
        (key,) = keys(console, "m1")
        shown = await console.view.letter(DEAD, key)
        body = shown["body"]["text"].replace('"n": 1', '"n": 7')
        job = await end(
            await console.operations.send_edited(
                DEAD, key, body=body, attributes={**shown["attributes"], "country": "fr", "added": 1.5}, **BY
            )
        )
        (back,) = app.transport.queue(ORDERS).messages()  # type: ignore[attr-defined]
        assert (job.moved, back.id, back.type) == (1, "m1", "OrderPlaced")
        assert back.body == {"n": 7, "card": {"card_number": "4111"}}
        assert dict(back.attributes) == {"country": "fr", "token": "t0ps", "added": 1.5}
        assert [each["n"] for each in bodies(app, DEAD)] == [0]


async def test_what_is_not_edited_stays_byte_for_byte():
    raw = b'{"n":  1.10, "password":"x"}'
    async with console_of() as (app, console):
        message = Message.received(raw, id="it", headers={"dead-letter-source": ORDERS}, attributes={"n": 2**60})
        await app.transport.queue(DEAD).send(message)
        await console.view.letters.look(DEAD)
        (key,) = keys(console, "it")
        shown = await console.view.letter(DEAD, key)
        edited = console.operations.send_edited(
            DEAD, key, body=shown["body"]["text"], attributes=shown["attributes"], **BY
        )
        await end(await edited)
        (back,) = app.transport.queue(ORDERS).messages()  # type: ignore[attr-defined]
        assert back.raw == raw
        assert dict(back.attributes) == {"n": 2**60}


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        ({"body": "{no json"}, "body is no JSON"),
        ({"body": '{"other": "•••"}'}, "write it"),
        ({"body": '{"password": "•••"}'}, "write it"),
        ({"attributes": {"token": "•••", "other": "•••"}}, "attribute other is •••"),
        ({"attributes": {"a": {"b": 1}}}, "the message cannot be so"),
        ({"attributes": {"a": None}}, "the message cannot be so"),
        ({"body": "1", "to": "nowhere"}, "to must be one of"),
    ],
)
async def test_an_edit_that_cannot_be_sent_is_refused_and_the_message_stays(edit, text):
    async with console_of() as (app, console):
        await fill(app, 1)
        await console.view.letters.look(DEAD)
        (key,) = keys(console, "m0")
        with pytest.raises(ConfigurationError, match=text):
            await console.operations.send_edited(DEAD, key, **edit, **BY)
        assert len(bodies(app, DEAD)) == 1
        assert not bodies(app, ORDERS)


async def test_what_is_discarded_is_in_the_export_and_can_be_restored(tmp_path):
    async with console_of(exports=tmp_path / "exports") as (app, console):
        await fill(app, 5)
        before = list(app.transport.queue(DEAD).messages())  # type: ignore[attr-defined]
        with pytest.raises(ConfigurationError, match="look at orders-dead first"):
            await console.operations.discard(DEAD, Selection(), **BY)
        await console.view.letters.look(DEAD)
        await fill(app, 1)  # nobody has seen it: another one of id m0
        await app.transport.queue(DEAD).send(Message("unseen", id="unseen"))
        some = Selection.parse({"keys": keys(console, "m1", "m2")})
        job = await end(await console.operations.discard(DEAD, some, **BY))
        assert (job.moved, job.left, len(bodies(app, DEAD))) == (2, 0, 5)
        (file,) = (tmp_path / "exports").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["m1", "m2"]
        assert job.note == f"exported to {file}"
        job = await end(await console.operations.restore(file.name, DEAD, **BY))
        assert job.moved == 2
        found = {each.id: each for each in app.transport.queue(DEAD).messages()}  # type: ignore[attr-defined]
        for each in before[1:3]:
            assert found[each.id] == each  # reason and all
        for name in ("../secret.jsonl", "none.jsonl", "x" * 1000):
            with pytest.raises(LookupError):
                await console.operations.restore(name, DEAD, **BY)


async def test_nothing_is_discarded_where_the_export_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    async with console_of(exports=tmp_path / "file" / "folder") as (app, console):
        await fill(app, 3)
        await console.view.letters.look(DEAD)
        job = await end(await console.operations.discard(DEAD, Selection(), **BY))
        assert (job.moved, job.failed) == (0, 3)
        assert await app.transport.queue(DEAD).depth() == {"ready": 3, "delayed": 0, "leased": 0}
    async with console_of() as (app, console):
        with pytest.raises(ConfigurationError, match="--exports"):
            await console.operations.discard(DEAD, Selection(), **BY)


async def test_each_change_is_in_the_audit_log_before_and_after(tmp_path):
    log = tmp_path / "audit.jsonl"
    async with console_of(audit=log) as (app, console):
        await fill(app, 3)
        await end(await console.operations.redrive(DEAD, Selection(), rate=100, **BY))
    begun, done = map(json.loads, log.read_text().splitlines())
    assert (begun["outcome"], begun["action"], begun["by"], begun["queue"]) == ("begun", "redrive", "ada", DEAD)
    assert (done["outcome"], done["moved"], done["change"]) == ("done", 3, begun["change"])
    assert log.stat().st_mode & 0o777 == 0o600
    assert "4111" not in log.read_text()
    assert "t0ps" not in log.read_text()


async def test_a_change_that_cannot_be_recorded_is_not_made(tmp_path):
    (tmp_path / "file").write_text("")
    async with console_of(audit=tmp_path / "file" / "audit.jsonl") as (app, console):
        await fill(app, 3)
        with pytest.raises(StoreError, match="cannot be written"):
            await console.operations.redrive(DEAD, Selection(), **BY)
        assert len(bodies(app, DEAD)) == 3


async def test_a_queue_that_is_no_queue_of_dead_letters_cannot_be_touched():
    async with console_of() as (_, console):
        for change in (console.operations.redrive, console.operations.discard):
            with pytest.raises(LookupError):
                await change(ORDERS, Selection(), **BY)


async def test_a_failing_destination_leaves_everything_where_it_is():
    async with console_of() as (app, console):
        await fill(app, 3)

        async def refuse(*_: object, **__: object) -> None:
            raise OSError("disk full")

        app.transport.queue(ORDERS).send = refuse
        job = await end(await console.operations.redrive(DEAD, Selection(), **BY))
        assert (job.moved, job.failed, len(bodies(app, DEAD))) == (0, 3, 3)


async def test_ended_jobs_are_forgotten():
    jobs = Jobs()

    async def nothing(_: Job) -> None: ...

    for number in range(60):
        await end(jobs.start("look", f"q{number}", nothing, by="ada"))
    assert len(jobs.all()) == 51
    assert jobs.all()[0].queue == "q59"
    with pytest.raises(LookupError):
        jobs.cancel("none")
