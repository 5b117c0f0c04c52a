"""A store in Redis, shared by any number of processes (extra ``redis``).

Redis must be set up to keep what it holds: with an append-only file (``appendonly yes``; with ``appendfsync everysec``
a crash of the machine may take the last second's writes) and without eviction (``maxmemory-policy noeviction``).
Redis replicates asynchronously, so a replica that takes over may lack the last writes: what one process had claimed,
another may then claim too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import redis.asyncio
import redis.exceptions
from typing_extensions import override

from eip import clock
from eip._ids import new_id
from eip.errors import ConfigurationError, StateError, StoreError
from eip.stores._gathering import Gatherers, Job
from eip.stores._named import NamedStore, foreign_part_passed
from eip.stores._redis_scripts import (
    READS,
    SCRIPTS,
    SHA_DELETE,
    SHA_DUE,
    SHA_GET,
    SHA_PARTS,
    SHA_PUT,
    SHA_PUT_PART,
)
from eip.stores.base import Record

__all__ = ["RedisStore"]

_GRACE: Final = 60.0
"""Seconds after which Redis removes what has expired: never before its readers, whose clocks may differ, agree."""

_BATCH: Final = 200
"""Calls that are sent together at most."""
_BATCHES: Final = 4
"""Batches under way at once; each takes a connection."""
_CALL_S: Final = 20.0
"""Seconds that one batch may take, with the client's own retries."""
_CLOSE_S: Final = 2.0
_VERSION: Final = 2
"""Version of the schema. 1: releases before 1.0 did not note it; the records are the same."""

_TIMEOUTS: Final[dict[str, Any]] = {"socket_timeout": 10.0, "socket_connect_timeout": 5.0}
"""Seconds, of a client made for a URL that does not say otherwise."""

_PERMANENT: Final = (
    redis.exceptions.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.DataError,
    redis.exceptions.ResponseError,
    TypeError,
    ValueError,
    OverflowError,
)
_KINDS: Final = {
    "ASK": redis.exceptions.AskError,
    "MASTERDOWN": redis.exceptions.MasterDownError,
    "CLUSTERDOWN": redis.exceptions.ClusterDownError,
    "NOSCRIPT": redis.exceptions.NoScriptError,
    "OOM": redis.exceptions.OutOfMemoryError,
    "READONLY": redis.exceptions.ReadOnlyError,
    "TRYAGAIN": redis.exceptions.TryAgainError,
}
"""Refusals for which the client has a class, and whose first word it takes off."""
_TRANSIENT_CODES: Final = _KINDS.keys() | {"BUSY", "LOADING", "MISCONF", "NOREPLICAS", "UNKILLABLE"}
"""First words of refusals that pass (redis.io, "Redis serialization protocol", simple errors): a cluster that reshards,
a replica that is not promoted yet, full memory, a script that runs long."""
_REPLICA_CODES: Final = frozenset(("READONLY", "MASTERDOWN"))
_CODE: Final = re.compile(r"(?:^|: -)([A-Z]+)\b")
"""Before Redis 7, what a command in a script was refused for is inside of the script's error: ``… -OOM command …``."""


@dataclass(slots=True, eq=False)
class _Call(Job):
    """A script (None: DEL) with its keys and arguments."""

    sha: str | None
    keys: Sequence[str]
    arguments: Sequence[Any]


class RedisStore(NamedStore):
    """Records in a Redis, conditional writes as Lua scripts; works on a cluster, where a collection is on one shard.

    Calls that come together are sent together. A collection of a later schema version is refused.

    Args:
        client: A `redis.asyncio.Redis` (or ``RedisCluster``) that gives bytes, which stays the caller's; or a URL
            (``rediss://user:password@host:6379/0``), for which it makes one and closes it.
        name: Name of the collection; its keys begin with ``{name}:``.

    Raises:
        ConfigurationError: the name is invalid, or the client decodes responses.
    """

    def __init__(self, client: redis.asyncio.Redis | redis.asyncio.RedisCluster | str, name: str = "eip") -> None:
        self._own = isinstance(client, str)
        self._client: Any = redis.asyncio.from_url(client, **_TIMEOUTS) if isinstance(client, str) else client
        if self._client.get_encoder().decode_responses:
            raise ConfigurationError("the client decodes responses; make it with decode_responses=False")
        if not name or set(name) & set("{}"):
            raise ConfigurationError(f"name must not be empty and have no braces, got {name!r}")
        self._prefix = f"{{{name}}}:"
        self._due_key = f"{self._prefix}due"
        self._checked = self._noted = self._closed = False
        self._calls: Gatherers[_Call] = Gatherers(self._start, max_jobs=_BATCH, max_batches=_BATCHES)

    @override
    def __repr__(self) -> str:
        return f"<RedisStore {self._prefix} at {_server(self._client)}>"

    @override
    async def next_due(self) -> float | None:
        first = await self._dues("+inf", 1)
        return first[0][1] if first else None

    @override
    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._calls.idle()
        if self._own:
            await self._client.aclose()

    @override
    async def _get(self, name: str) -> Record | None:
        found = await self._run(SHA_GET, self._keys(name), clock.now())
        if found is None:
            return None
        value, version = found
        if value is None or not version.isascii():
            raise StoreError(f"Redis: the record of {name!r} is not ours", transient=False)
        return Record(value, version.decode())

    @override
    async def _put(
        self, name: str, value: bytes, version: str | None, due: float | None, expires_at: float | None
    ) -> str | None:
        made, expected = new_id(), "*" if version is None else version
        times = (clock.now(), _time(due), _time(expires_at), _gone(expires_at))
        keys = [*self._keys(name), self._due_key]
        return made if await self._run(SHA_PUT, keys, name, value, made, expected, *times) else None

    @override
    async def _delete(self, name: str, version: str | None) -> bool:
        expected = "*" if version is None else version
        keys = [*self._keys(name), self._due_key]
        return bool(await self._run(SHA_DELETE, keys, name, expected, clock.now()))

    @override
    async def _put_part(self, name: str, part: str, value: bytes, expires_at: float | None) -> int:
        held = f"{_time(expires_at)}\n".encode() + value
        return int(await self._run(SHA_PUT_PART, self._keys(name), part, held, clock.now(), _gone(expires_at)))

    @override
    async def _parts(self, name: str) -> dict[str, bytes]:
        now = clock.now()
        held = iter(await self._run(SHA_PARTS, self._keys(name), now))
        parts: dict[str, bytes] = {}
        for part, value in zip(held, held, strict=True):
            until, newline, rest = value.partition(b"\n")
            with foreign_part_passed(self, name, part):
                if not newline:
                    raise ValueError("it has no expiry")
                if not until or float(until) > now:
                    parts[part.decode()] = rest
        return parts

    @override
    async def _delete_parts(self, name: str) -> None:
        await self._run(None, self._keys(name)[1:])

    @override
    async def _due(self, now: float, limit: int) -> list[str]:
        return [key for key, _ in await self._dues(repr(now), limit)]

    async def _dues(self, upto: str, limit: int) -> list[tuple[str, float]]:
        found = iter(await self._run(SHA_DUE, [self._due_key], upto, limit, clock.now(), self._prefix))
        return [(key.decode(errors="surrogateescape"), float(at)) for key, at in zip(found, found, strict=True)]

    async def _run(self, sha: str | None, keys: Sequence[str], *arguments: Any) -> Any:
        if self._closed:
            raise StateError(f"{self!r} is closed")
        try:
            return await self._calls.run(_Call(sha, keys, arguments))
        except StoreError:
            raise
        except Exception as error:  # whatever the client, ssl or the network raises
            raise _store_error(error) from error

    # Batches.

    def _start(self, calls: Sequence[_Call]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_task(self._work_off(calls), name=f"Redis {self._prefix}")

    async def _work_off(self, calls: Sequence[_Call]) -> None:
        try:
            async with asyncio.timeout(_CALL_S):
                await self._exchange(calls)
        except Exception as error:  # noqa: BLE001 - as above
            for call in calls:
                call.error = error
        if any(_code(call.error) in _REPLICA_CODES for call in calls if call.error):
            await self._leave_replica()

    async def _exchange(self, calls: Sequence[_Call]) -> None:
        await self._check(writes=any(each.sha not in READS for each in calls))
        await self._send(calls)
        unknown = [each for each in calls if isinstance(each.error, redis.exceptions.NoScriptError)]
        if unknown:
            for text in SCRIPTS.values():
                await self._client.script_load(text)
            await self._send(unknown)

    async def _send(self, calls: Sequence[_Call]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            if call.sha is None:
                pipeline.delete(*call.keys)
            else:
                pipeline.execute_command("EVALSHA", call.sha, len(call.keys), *call.keys, *call.arguments)
        for call, result in zip(calls, await pipeline.execute(raise_on_error=False), strict=True):
            if isinstance(result, Exception):
                call.error = result
            else:
                call.result, call.error = result, None
                call.settle()  # it is done, whatever becomes of the others

    async def _leave_replica(self) -> None:
        """Have the next calls connect again: after a failover, the address is another server's than the connections."""
        pool = getattr(self._client, "connection_pool", None)  # a cluster's client finds the primary itself
        if pool is not None:
            with suppress(Exception):
                await pool.disconnect(inuse_connections=False)

    async def _check(self, *, writes: bool) -> None:
        """Refuse a later version of the schema, once; note ours before the first write."""
        if self._noted or (self._checked and not writes):
            return
        if writes:
            await self._client.set(f"{self._prefix}schema", _VERSION, nx=True)
        found = int(await self._client.get(f"{self._prefix}schema") or _VERSION)
        if found > _VERSION:
            raise StoreError(
                f"Redis: {self._prefix} has schema version {found}; this release reads up to {_VERSION}: "
                "upgrade aioeip",
                transient=False,
            )
        self._checked, self._noted = True, writes

    def _keys(self, name: str) -> list[str]:
        return [f"{self._prefix}r:{name}", f"{self._prefix}p:{name}"]


def _server(client: Any) -> str:
    """Host and port, or path, of a client; a cluster's are many."""
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    return str(options.get("path") or f"{options.get('host', 'cluster')}:{options.get('port', '')}").rstrip(":")


def _time(at: float | None) -> str:
    return "" if at is None else repr(at)


def _gone(expires_at: float | None) -> str:
    """When Redis may remove it, in milliseconds."""
    return "" if expires_at is None else str(round((expires_at + _GRACE) * 1000))


def _code(error: Exception) -> str:
    """First word of a refusal; empty for other errors."""
    known = next((code for code, kind in _KINDS.items() if isinstance(error, kind)), "")
    found = _CODE.search(str(error))
    return known or (found[1] if found else "")


def _store_error(error: Exception) -> StoreError:
    transient = not isinstance(error, _PERMANENT) or _code(error) in _TRANSIENT_CODES
    return StoreError(f"Redis: {type(error).__name__}: {str(error) or 'no answer in time'}", transient=transient)
