"""The simulated partner: events of a Salesforce organisation as AppFlow puts them on its bus, and what may go wrong.

Like Salesforce's own event bus, it keeps what it sent, and sends it again when asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from eip import clock
from eip.codec import dump_json, load_json
from eip.stores.base import Store
from eip.stores.objects import ObjectStore
from examples.partner_events.intake import PAYLOAD_URL
from examples.partner_events.model import CUSTOMERS, MAX_EVENT_BYTES, MAX_INLINE_BYTES
from examples.partner_events.salesforce import CONTRACT_EVENT, ORDER_EVENT

__all__ = ["KINDS", "Partner"]

KINDS: Final = {
    "contract": "a contract",
    "order": "an order",
    "large order": "an order of 6,000 lines: its URL travels",
    "early order": "an order, and its contract after it",
    "draft contract": "a contract that is not activated",
    "test order": "a test order",
    "unknown type": "an event of an unknown type",
    "invalid order": "an order without lines, with a negative price",
    "unknown customer": "an order of a customer that nobody knows",
    "order without its contract": "an order whose contract never comes",
    "foreign bucket": "the URL of an object in somebody else's bucket",
    "object gone": "the URL of an object that is gone",
    "oversize": "an order of more than 4 MB",
}
_KEPT: Final = 1000
"""Events that can be sent again: the latest."""
_LARGE_LINES: Final = 6000

Put = Callable[[str, dict[str, Any]], Awaitable[None]]


class Partner:
    """Sends events.

    Args:
        put: puts an event on the partner's bus, given its detail-type and its detail.
        objects: where payloads over 256 KB go.
        url_of: the URL of an object, by bucket and key.
        store: of what was sent.
    """

    def __init__(self, put: Put, objects: ObjectStore, url_of: Callable[[str, str], str], store: Store) -> None:
        self._put, self._objects, self._url_of, self._store = put, objects, url_of, store
        self._turn = asyncio.Lock()
        self._contract: str | None = None
        """The number of the latest contract."""
        self._makers: dict[str, Callable[[], Awaitable[None]]] = {
            "contract": self._send_contract,
            "order": self._send_order,
            "large order": lambda: self._send_order(lines=_LARGE_LINES),
            "early order": self._send_early_order,
            "draft contract": lambda: self._send_contract(Status__c="Draft"),
            "test order": lambda: self._send_order(IsTest__c=True),
            "unknown type": lambda: self._send("Quote_Event__e", {"QuoteNumber__c": "Q-1"}),
            "invalid order": lambda: self._send_order(Lines__c='[{"sku": "", "qty": 1, "price": -1}]'),
            "unknown customer": lambda: self._send_order(AccountId__c="001?"),
            "order without its contract": lambda: self._send_order(ContractNumber__c="C-never"),
            "foreign bucket": lambda: self._send_url(self._url_of("somebody-elses", "secret.json")),
            "object gone": lambda: self._send_url(self._url_of(self._objects.bucket, "gone.json")),
            "oversize": lambda: self._send_order(lines=1, Note__c="x" * MAX_EVENT_BYTES),
        }

    async def send(self, kind: str) -> None:
        """Send what `KINDS` describes."""
        await self._makers[kind]()

    async def replay(self) -> int:
        """Send the latest events again, in their order; how many."""
        last = await self._last()
        numbers = range(max(1, last - _KEPT + 1), last + 1)
        for number in numbers:
            found = await self._store.get(_key(number))
            if found is not None:
                event = load_json(found.value)
                await self._put(event["type"], event["detail"])
        return len(numbers)

    async def _send_contract(self, **changes: Any) -> None:
        contract = {
            "ContractNumber__c": f"C-{uuid4().hex[:8]}",
            "AccountId__c": CUSTOMERS[0].id,
            "Status__c": "Activated",
            "DiscountPercent__c": "12.5",
            "StartDate__c": "2026-01-01",
            **changes,
        }
        await self._send(CONTRACT_EVENT, contract)
        if contract["Status__c"] == "Activated":
            self._contract = contract["ContractNumber__c"]

    async def _send_order(self, *, lines: int = 3, **changes: Any) -> None:
        number = uuid4().hex[:8]
        bought = [{"sku": f"SKU-{each:06}", "qty": 1 + each % 7, "price": "9.95"} for each in range(lines)]
        order = {
            "OrderNumber__c": number,
            "AccountId__c": CUSTOMERS[int(number, 16) % len(CUSTOMERS)].id,
            "ContractNumber__c": self._contract,
            "Lines__c": dump_json(bought).decode(),
            "IsTest__c": False,
            **changes,
        }
        await self._send(ORDER_EVENT, order)

    async def _send_early_order(self) -> None:
        number = f"C-{uuid4().hex[:8]}"
        await self._send_order(ContractNumber__c=number)
        await self._send_contract(ContractNumber__c=number)

    async def _send_url(self, url: str) -> None:
        await self._send(ORDER_EVENT, {PAYLOAD_URL: url, "payload_size_bytes": MAX_INLINE_BYTES + 1})

    async def _send(self, kind: str, fields: dict[str, Any]) -> None:
        async with self._turn:
            await self._send_next(kind, fields)

    async def _send_next(self, kind: str, fields: dict[str, Any]) -> None:
        number = await self._last() + 1
        detail = {
            **fields,
            "CreatedDate": datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="milliseconds"),
            "EventUuid": str(uuid4()),
            "ReplayId": str(number),
        }
        payload = dump_json(detail)
        if len(payload) > MAX_INLINE_BYTES:
            key = f"payloads/{detail['EventUuid']}.json"
            await self._objects.put(key, payload)
            url = self._url_of(self._objects.bucket, key)
            detail = {PAYLOAD_URL: url, "payload_size_bytes": len(payload), "EventUuid": detail["EventUuid"]}
        await self._store.put(_key(number), dump_json({"type": kind, "detail": detail}))
        await self._store.put("last", str(number).encode())
        await self._put(kind, detail)

    async def _last(self) -> int:
        found = await self._store.get("last")
        return 0 if found is None else int(found.value)


def _key(number: int) -> str:
    return f"event:{number}"
