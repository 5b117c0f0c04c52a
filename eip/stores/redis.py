"""A store in Redis, shared by any number of processes (extra ``redis``).

Redis must be set up to keep what it holds: with an append-only file (``appendonly yes``; with ``appendfsync everysec``
a crash of the machine may take the last second's writes) and without eviction (``maxmemory-policy noeviction``).
Redis replicates asynchronously, so a replica that takes over may lack the last writes: what one process had claimed,
another may then claim too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from eip import clock
from eip._ids import new_id
from eip.errors import ConfigurationError, StoreError
from eip.stores.base import Record

__all__ = ["RedisStore"]

_GRACE: Final = 60.0
"""Seconds after which Redis removes what has expired: never before its readers, whose clocks may differ, agree."""

_CALLS: Final = 32
"""Calls at once; each takes a connection, of which a client has 100 where it is not told otherwise."""

_TIMEOUTS: Final[dict[str, Any]] = {"socket_timeout": 10.0, "socket_connect_timeout": 5.0}
"""Seconds, of a client made for a URL that does not say otherwise."""

# A record is a hash: v(alue), n(umber of its version), e(xpiry). Its parts are another, each with its expiry before it.
_PRELUDE: Final = """
local function live(record, parts, now)
    local held = redis.call('HMGET', record, 'n', 'e')
    if held[1] and held[2] ~= '' and tonumber(held[2]) <= tonumber(now) then
        redis.call('DEL', record, parts)
        return nil
    end
    return held[1] or nil
end
"""
_GET: Final = """
if not live(KEYS[1], KEYS[2], ARGV[1]) then return nil end
return redis.call('HMGET', KEYS[1], 'v', 'n')
"""
_PUT: Final = """
local key, value, made, expected, now, due, expires, gone = unpack(ARGV)
local version = live(KEYS[1], KEYS[2], now) or ''
if version == made then return 1 end  -- the client asks again: the answer was lost
if expected ~= '*' and expected ~= version then return 0 end
redis.call('HSET', KEYS[1], 'v', value, 'n', made, 'e', expires)
if gone == '' then
    redis.call('PERSIST', KEYS[1])
    redis.call('PERSIST', KEYS[2])
else
    redis.call('PEXPIREAT', KEYS[1], gone)
    redis.call('PEXPIREAT', KEYS[2], gone)
end
if due == '' then redis.call('ZREM', KEYS[3], key) else redis.call('ZADD', KEYS[3], due, key) end
return 1
"""
_DELETE: Final = """
local key, expected, now = unpack(ARGV)
local version = live(KEYS[1], KEYS[2], now)
if not version or (expected ~= '*' and expected ~= version) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], key)
return 1
"""
# The hash of parts lives as long as the record, or without one as long as its longest part.
_PUT_PART: Final = """
local part, value, now, gone = unpack(ARGV)
local alone = not live(KEYS[1], KEYS[2], now)
local left = redis.call('PTTL', KEYS[2])
redis.call('HSET', KEYS[2], part, value)
if alone and gone == '' then
    redis.call('PERSIST', KEYS[2])
elseif alone and (left == -2 or (left >= 0 and tonumber(gone) > tonumber(now) * 1000 + left)) then
    redis.call('PEXPIREAT', KEYS[2], gone)
elseif not alone and left == -2 then
    local until_ms = redis.call('PTTL', KEYS[1])
    if until_ms >= 0 then redis.call('PEXPIRE', KEYS[2], until_ms) end
end
return 1
"""
_PARTS: Final = """
live(KEYS[1], KEYS[2], ARGV[1])
return redis.call('HGETALL', KEYS[2])
"""
# What ceased to be there is due no more; it is struck off here.
_DUE: Final = """
local upto, limit, now, prefix = unpack(ARGV)
local found, start = {}, 0
limit = tonumber(limit)
while #found < 2 * limit do
    local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', upto, 'WITHSCORES', 'LIMIT', start, limit)
    if #page == 0 then break end
    for at = 1, #page, 2 do
        local key = page[at]
        if live(prefix .. 'r:' .. key, prefix .. 'p:' .. key, now) then
            start = start + 1
            if #found < 2 * limit then
                found[#found + 1] = key
                found[#found + 1] = page[at + 1]
            end
        else
            redis.call('ZREM', KEYS[1], key)
        end
    end
end
return found
"""


class RedisStore:
    """Records in a Redis, conditional writes as Lua scripts; works on a cluster, where a collection is on one shard.

    Args:
        client: a `redis.asyncio.Redis` (or ``RedisCluster``) that gives bytes, which stays the caller's; or a URL
            (``rediss://user:password@host:6379/0``), for which it makes one and closes it.
        name: of the collection; its keys begin with ``{name}:``.

    Raises:
        ConfigurationError: a client that decodes responses.
    """

    def __init__(self, client: redis.asyncio.Redis | redis.asyncio.RedisCluster | str, name: str = "eip") -> None:
        self._own = isinstance(client, str)
        self._client: Any = redis.asyncio.from_url(client, **_TIMEOUTS) if isinstance(client, str) else client
        if self._client.get_encoder().decode_responses:
            raise ConfigurationError("the client decodes responses; make it with decode_responses=False")
        if not name or set(name) & set("{}"):
            raise ConfigurationError(f"a collection's name is not empty and has no braces, not {name!r}")
        self._turn = asyncio.Semaphore(_CALLS)
        self._prefix = f"{{{name}}}:"
        self._due_key = f"{self._prefix}due"
        self._get, self._put, self._delete, self._put_part, self._parts, self._due = (
            self._client.register_script(_PRELUDE + text) for text in (_GET, _PUT, _DELETE, _PUT_PART, _PARTS, _DUE)
        )

    async def get(self, key: str) -> Record | None:
        """See `Store.get`."""
        found = await self._run(self._get, self._keys(key), [clock.now()])
        return None if found is None else Record(found[0], found[1].decode())

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        version: str | None = None,
        due: float | None = None,
        expires_at: float | None = None,
    ) -> str | None:
        """See `Store.put`."""
        made, expected = new_id(), "*" if version is None else version
        times = [clock.now(), _time(due), _time(expires_at), _gone(expires_at)]
        done = await self._run(self._put, [*self._keys(key), self._due_key], [key, value, made, expected, *times])
        return made if done else None

    async def delete(self, key: str, *, version: str | None = None) -> bool:
        """See `Store.delete`."""
        expected = "*" if version is None else version
        keys = [*self._keys(key), self._due_key]
        return bool(await self._run(self._delete, keys, [key, expected, clock.now()]))

    async def put_part(self, key: str, part: str, value: bytes, *, expires_at: float | None = None) -> None:
        """See `Store.put_part`."""
        held = f"{_time(expires_at)}\n".encode() + value
        await self._run(self._put_part, self._keys(key), [part, held, clock.now(), _gone(expires_at)])

    async def parts(self, key: str) -> dict[str, bytes]:
        """See `Store.parts`."""
        now = clock.now()
        held = iter(await self._run(self._parts, self._keys(key), [now]))
        parts: dict[str, bytes] = {}
        for name, value in zip(held, held, strict=True):
            until, _, part = value.partition(b"\n")
            if not until or float(until) > now:
                parts[name.decode()] = part
        return parts

    async def delete_parts(self, key: str) -> None:
        """See `Store.delete_parts`."""
        await self._run(self._client.delete, self._keys(key)[1])

    async def due(self, now: float, *, limit: int = 100) -> list[str]:
        """See `Store.due`."""
        return [key for key, _ in await self._dues(repr(now), limit)]

    async def next_due(self) -> float | None:
        """See `Store.next_due`."""
        first = await self._dues("+inf", 1)
        return first[0][1] if first else None

    async def aclose(self) -> None:
        """Close the client, if this store made it. Idempotent."""
        if self._own:
            await self._client.aclose()

    async def _dues(self, upto: str, limit: int) -> list[tuple[str, float]]:
        found = iter(await self._run(self._due, [self._due_key], [upto, limit, clock.now(), self._prefix]))
        return [(key.decode(), float(at)) for key, at in zip(found, found, strict=True)]

    async def _run(self, call: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        try:
            async with self._turn:
                return await call(*arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"Redis: {type(error).__name__}: {error}") from error

    def _keys(self, key: str) -> list[str]:
        return [f"{self._prefix}r:{key}", f"{self._prefix}p:{key}"]


def _time(at: float | None) -> str:
    return "" if at is None else repr(float(at))


def _gone(expires_at: float | None) -> str:
    """When Redis may remove it, in milliseconds."""
    return "" if expires_at is None else str(round((expires_at + _GRACE) * 1000))
