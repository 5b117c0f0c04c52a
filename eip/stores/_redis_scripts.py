"""The Lua scripts of `eip.stores.redis`: each call of the store is one, so condition and write are one step."""

from __future__ import annotations

from hashlib import sha1
from typing import Final

__all__ = ["READS", "SCRIPTS", "SHA_DELETE", "SHA_DUE", "SHA_GET", "SHA_PARTS", "SHA_PUT", "SHA_PUT_PART"]

# A record is a hash: v(alue), n(umber of its version), e(xpiry). Its parts are another, each with its expiry before it.
# What somebody else put under the key is an error of that key alone, and stays. What has expired by the caller's clock
# is not there for the caller; it is removed by Redis, or by who writes in its place: others' clocks may be behind.
_PRELUDE: Final = """
local function live(record, now)
    local held = redis.pcall('HMGET', record, 'n', 'e')
    if held.err then return nil, held end
    if held[1] and (tonumber(held[2] or '') or math.huge) <= tonumber(now) then return nil, nil, true end
    return held[1] or nil
end
"""
_GET: Final = """
local version, wrong = live(KEYS[1], ARGV[1])
if not version then return wrong end
return redis.call('HMGET', KEYS[1], 'v', 'n')
"""
_PUT: Final = """
local key, value, made, expected, now, due, expires, gone = unpack(ARGV)
local version, wrong, expired = live(KEYS[1], now)
if wrong then return wrong end
version = version or ''
if version == made then return 1 end  -- the client asks again: the answer was lost
if expected ~= '*' and expected ~= version then return 0 end
if expired then redis.call('DEL', KEYS[1], KEYS[2]) end
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
local version, wrong = live(KEYS[1], now)
if wrong then return wrong end
if not version or (expected ~= '*' and expected ~= version) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], key)
return 1
"""
# The hash of parts lives as long as the record, or without one as long as its longest part.
_PUT_PART: Final = """
local part, value, now, gone = unpack(ARGV)
local version, wrong, expired = live(KEYS[1], now)
if wrong then return wrong end
if expired then redis.call('DEL', KEYS[1], KEYS[2]) end
local alone = not version
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
return redis.call('HLEN', KEYS[2])
"""
_PARTS: Final = """
local _, _, expired = live(KEYS[1], ARGV[1])
return expired and {} or redis.call('HGETALL', KEYS[2])
"""
# What Redis has removed is due no more; it is struck off here.
_DUE: Final = """
local upto, limit, now, prefix = unpack(ARGV)
local found, start = {}, 0
limit = tonumber(limit)
while #found < 2 * limit do
    local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', upto, 'WITHSCORES', 'LIMIT', start, limit)
    if #page == 0 then break end
    for at = 1, #page, 2 do
        local key = page[at]
        local version, wrong, expired = live(prefix .. 'r:' .. key, now)
        if version or wrong or expired then
            start = start + 1
            if not expired and #found < 2 * limit then
                found[#found + 1] = key
                found[#found + 1] = page[at + 1]
            end
        elseif redis.pcall('ZREM', KEYS[1], key) ~= 1 then
            start = start + 1  -- who may only read, or asks a replica, passes it by
        end
    end
end
return found
"""

SCRIPTS: Final = {
    sha1(text.encode(), usedforsecurity=False).hexdigest(): text
    for text in (_PRELUDE + each for each in (_GET, _PUT, _DELETE, _PUT_PART, _PARTS, _DUE))
}
"""By their SHA-1, by which Redis calls them."""
SHA_GET, SHA_PUT, SHA_DELETE, SHA_PUT_PART, SHA_PARTS, SHA_DUE = SCRIPTS
READS: Final = frozenset((SHA_GET, SHA_PARTS, SHA_DUE))
"""Those that write nothing, but that what Redis has removed is due no more."""
