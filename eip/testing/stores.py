"""The conformance suite of stores: what every `eip.stores.Store` must do.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        async def store(self):
            ...
            yield store
            await store.aclose()

It needs pytest and pytest-asyncio; times are those of `eip.clock`, which the cases move by themselves.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

import pytest

from eip import clock
from eip.errors import StateError
from eip.stores.base import ABSENT, LAST_TIME, Store, stored_name

__all__ = ["ODD_TEXTS", "StoreConformance"]


ODD_TEXTS: Final = (
    "",
    "a\0b",
    "\0",
    "x" * 901,
    "x" * 100_000,
    "ä" * 451,
    "\ud800",
    "a\udc00\0",
    "eip:sha256:" + "0" * 64,
    "eip:sha256:",
    "%s {name} \\ ' \" \r\n\t# :",
    "\U0001f600",
)
"""Keys that some database cannot hold, or that look like something else."""


class StoreConformance:
    """All cases; subclass it and give it a fixture ``store``: empty, and open."""

    pytestmark = pytest.mark.asyncio

    async def test_what_was_put_is_got(self, store: Store) -> None:
        """A record comes back as it was written, whatever its bytes; another key is not there."""
        value = bytes(range(256))
        version = await store.put("a/ä b\x1f", value)
        assert version
        assert await store.get("a/ä b\x1f") == (value, version)
        assert await store.get("other") is None

    async def test_a_write_needs_the_version_it_expects(self, store: Store) -> None:
        """Of two writers who read the same record, the second is refused."""
        first = await store.put("k", b"1", version=ABSENT)
        assert first is not None
        assert await store.put("k", b"x", version=ABSENT) is None
        second = await store.put("k", b"2", version=first)
        assert second not in (None, first)
        assert await store.put("k", b"x", version=first) is None
        assert await store.get("k") == (b"2", second)
        assert await store.put("k", b"3") is not None

    async def test_a_version_never_comes_back(self, store: Store) -> None:
        """A record that was removed and made again is another one."""
        first = await store.put("k", b"1")
        assert await store.delete("k")
        again = await store.put("k", b"1", version=ABSENT)
        assert again not in (None, first)
        assert await store.put("k", b"2", version=first) is None

    async def test_one_of_many_writers_wins(self, store: Store) -> None:
        """However many try at once, one creates and one replaces."""
        created = await asyncio.gather(*(store.put("k", b"%d" % n, version=ABSENT) for n in range(20)))
        (version,) = [each for each in created if each is not None]
        replaced = await asyncio.gather(*(store.put("k", b"%d" % n, version=version) for n in range(20)))
        assert sum(each is not None for each in replaced) == 1

    async def test_removing_needs_the_version_it_expects(self, store: Store) -> None:
        """A record changed since is not removed; one that is not there neither."""
        first = await store.put("k", b"1")
        await store.put("k", b"2")
        assert not await store.delete("k", version=first)
        assert await store.delete("k")
        assert not await store.delete("k")

    async def test_parts_belong_to_their_key(self, store: Store) -> None:
        """Parts are written with or without their record, replaced, and removed with it."""
        await store.put_part("k", "1", b"one")
        await store.put_part("k", "2", b"two")
        await store.put_part("kk", "1", b"other")
        await store.put("k", b"head")
        assert await store.put_part("k", "1", b"uno") in (2, None)
        assert await store.parts("k") == {"1": b"uno", "2": b"two"}
        assert await store.put_part("k", "3", b"drei") in (3, None)
        assert await store.delete("k")
        assert await store.parts("k") == {}
        assert await store.parts("kk") == {"1": b"other"}
        await store.put("kk", b"head")
        await store.delete_parts("kk")
        assert await store.parts("kk") == {}
        assert await store.get("kk") is not None

    async def test_what_is_due_is_listed_the_longest_first(self, store: Store) -> None:
        """A due time lasts until the next write; without one a record is never listed."""
        now = clock.now()
        await store.put("late", b"", due=now - 1)
        await store.put("early", b"", due=now - 5)
        await store.put("future", b"", due=now + 60)
        await store.put("never", b"")
        assert await store.due(now) == ["early", "late"]
        assert await store.due(now, limit=1) == ["early"]
        assert await store.due(now + 60) == ["early", "late", "future"]
        assert await store.next_due() == pytest.approx(now - 5, abs=0.001)
        await store.put("early", b"")
        await store.delete("late")
        assert await store.next_due() == pytest.approx(now + 60, abs=0.001)
        await store.delete("future")
        assert await store.next_due() is None

    async def test_what_has_expired_is_not_there(self, store: Store) -> None:
        """An expired record can be created again, and its parts do not show."""
        now = clock.now()
        first = await store.put("k", b"1", expires_at=now + 10)
        await store.put_part("k", "p", b"", expires_at=now + 10)
        with clock.use_clock(lambda: now + 9.9):
            assert await store.put("k", b"x", version=ABSENT) is None
            assert await store.parts("k") == {"p": b""}
        with clock.use_clock(lambda: now + 10.1):
            assert await store.get("k") is None
            assert await store.parts("k") == {}
            assert await store.put("k", b"2", version=first) is None
            assert not await store.delete("k")
            assert await store.put("k", b"2", version=ABSENT) is not None

    async def test_a_time_may_be_the_last_that_stores_hold(self, store: Store) -> None:
        """What is due in the year 9999 is listed at that time, and not before; a later time is none."""
        await store.put("soon", b"", due=clock.now())
        await store.put("last", b"", due=LAST_TIME)
        await store.put("never", b"", due=LAST_TIME + 1)
        assert await store.due(LAST_TIME - 1) == ["soon"]
        assert await store.due(LAST_TIME) == ["soon", "last"]

    async def test_what_has_expired_is_not_due_and_takes_its_parts_along(self, store: Store) -> None:
        """A record made again under the key of an expired one has none of its parts."""
        now = clock.now()
        await store.put("k", b"1", due=now, expires_at=now + 10)
        await store.put_part("k", "p", b"")
        await store.put("later", b"", due=now + 5)
        with clock.use_clock(lambda: now + 10.1):
            assert await store.due(now + 10.1) == ["later"]
            assert await store.next_due() == pytest.approx(now + 5, abs=0.001)
            assert await store.put("k", b"2", version=ABSENT) is not None
            assert await store.parts("k") == {}
            assert await store.due(now + 10.1) == ["later"]

    async def test_parts_written_once_a_record_has_expired_are_not_its_own(self, store: Store) -> None:
        """A pattern writes a part, then makes the record again; the part stays."""
        now = clock.now()
        await store.put("k", b"1", expires_at=now + 10)
        await store.put_part("k", "p", b"old")
        await store.put_part("k", "q", b"old")
        with clock.use_clock(lambda: now + 10.1):
            await store.put_part("k", "p", b"new")
            assert await store.parts("k") == {"p": b"new"}
            assert await store.put("k", b"2", version=ABSENT) is not None
            assert await store.parts("k") == {"p": b"new"}

    @pytest.mark.parametrize("text", ODD_TEXTS)
    async def test_any_text_is_a_key_and_names_a_part(self, store: Store, text: str) -> None:
        """Ids come from strangers; what the database cannot hold is hashed, and comes back as it was given."""
        now = clock.now()
        first = await store.put(text, b"1", version=ABSENT, due=now - 1)
        assert first is not None
        await store.put("other", b"2", due=now)
        await store.put_part(text, text, b"part")
        await store.put_part(text, "plain", b"")
        assert await store.get(text) == (b"1", first)
        assert await store.put(text, b"x", version=ABSENT) is None
        assert await store.due(now) == [text, "other"]
        assert await store.parts(text) == {text: b"part", "plain": b""}
        assert await store.put(text, b"2", version=first) is not None
        await store.delete_parts(text)
        assert await store.parts(text) == {}
        assert await store.delete(text)
        assert await store.get(text) is None

    async def test_no_two_texts_share_a_record(self, store: Store) -> None:
        """Neither their beginnings nor their hashes make two texts one."""
        texts = ["a" * 3000, "a" * 3001, "a\0b", "ab", "\ud800", "\udc00", "\ud83d\ude00", "\U0001f600"]
        texts += [stored_name(each) for each in texts if stored_name(each) != each]
        for text in texts:
            assert await store.put(text, text.encode("utf-8", "surrogatepass"), version=ABSENT) is not None
        for text in texts:
            found = await store.get(text)
            assert found is not None
            assert found.value == text.encode("utf-8", "surrogatepass")

    @pytest.mark.parametrize("at", [math.inf, 1e300, -math.inf, -1.0, 0.0])
    async def test_any_time_is_one(self, store: Store, at: float) -> None:
        """Later than the year 9999 is never; before 1970 is long ago."""
        await store.put("due", b"", due=at)
        assert await store.due(clock.now()) == ([] if at > 0 else ["due"])
        await store.put("k", b"1", expires_at=at)
        await store.put_part("p", "part", b"", expires_at=at)
        assert (await store.get("k") is not None) == (at > 0)
        assert (await store.parts("p") != {}) == (at > 0)

    async def test_wrong_types_are_named(self, store: Store) -> None:
        """A key that is not a str, and a value that is not bytes, are errors of the program."""
        with pytest.raises(TypeError, match="key"):
            await store.get(1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="value"):
            await store.put("k", "text")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="nan"):
            await store.put("k", b"", due=math.nan)

    async def test_a_value_that_cannot_be_written_fails_alone(self, store: Store) -> None:
        """Of calls made together, one that fails takes none of the others along."""
        done = await asyncio.gather(
            *(store.put(f"{n}", b"", version="gone" if n == 5 else ABSENT) for n in range(10)),
            *(store.put_part("k", 1 if n == 5 else f"{n}", b"") for n in range(10)),  # type: ignore[arg-type]
            return_exceptions=True,
        )
        assert [isinstance(each, str) for each in done[:10]] == [n != 5 for n in range(10)]
        assert [isinstance(each, TypeError) for each in done[10:]] == [n == 5 for n in range(10)]
        assert len(await store.parts("k")) == 9

    async def test_a_closed_store_is_not_used(self, store: Store) -> None:
        """Whatever is asked of it is an error of the program; closing it again is none."""
        now = clock.now()
        await store.put("k", b"1", due=now)
        await store.aclose()
        await store.aclose()
        for use in (
            store.get("k"),
            store.put("k", b"2"),
            store.delete("k"),
            store.put_part("k", "p", b""),
            store.parts("k"),
            store.delete_parts("k"),
            store.due(now),
            store.next_due(),
        ):
            with pytest.raises(StateError, match="closed"):
                await use

    async def test_large_values_and_many_parts(self, store: Store) -> None:
        """A record of 100 KB, and a thousand parts of 1 KB."""
        value = bytes(range(256)) * 400
        await store.put("k", value)
        await asyncio.gather(*(store.put_part("k", f"{number}", value[:1024]) for number in range(1000)))
        found = await store.get("k")
        assert found is not None
        assert found.value == value
        assert await store.parts("k") == {f"{number}": value[:1024] for number in range(1000)}
        assert await store.delete("k")
        assert await store.parts("k") == {}

    async def test_more_is_due_than_is_asked_for(self, store: Store) -> None:
        """Pages of what is due, in order, until nothing is left."""
        now = clock.now()
        keys = [f"{number:03}" for number in range(250)]
        await asyncio.gather(*(store.put(key, b"", due=now - 1000 + int(key)) for key in keys))
        seen: list[str] = []
        while page := await store.due(now, limit=100):
            assert len(page) <= 100
            seen += page
            await asyncio.gather(*(store.delete(key) for key in page))
        assert seen == keys
