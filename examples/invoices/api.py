"""The HTTP interface: scans are put in, and what becomes of them is watched."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from eip._ids import new_id
from eip.errors import MessageTooLarge
from eip.patterns.process_diagram import svg
from eip.patterns.process_manager import Instance
from examples.invoices.layouts import LAYOUTS
from examples.invoices.model import MAX_ANALYSIS_BYTES, MAX_SCAN_BYTES, InvoiceItem, Reading, Scan
from examples.invoices.recordings import scan as recorded_scan
from examples.invoices.steps import Buckets, Tables
from examples.invoices.workflow import ANALYSING, READING, Invoices
from examples.rfq.bodies import read, read_bytes
from examples.rfq.problems import Problem

__all__ = ["routes"]

_STATIC: Final = Path(__file__).with_name("static")
_POLICY: Final = {"Content-Security-Policy": "default-src 'self'", "Cache-Control": "no-cache"}
_SLOWEST_S: Final = 60.0
"""Seconds that an upload may take."""
_MAX_LISTED: Final = 1000
_IMAGES: Final = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"%PDF": "application/pdf"}


class _Sample(BaseModel):
    layout: str


def routes(invoices: Invoices, buckets: Buckets, tables: Tables) -> list[BaseRoute]:
    """The routes of the application and its page."""
    api = _Api(invoices, buckets, tables)
    return [
        Route("/", api.page),
        Route("/layouts", api.layouts),
        Route("/scans", api.sample, methods=["POST"]),
        Route("/scans/{name}", api.upload, methods=["PUT"]),
        Route("/invoices", api.invoices),
        Route("/invoices/{invoice}", api.invoice),
        Route("/invoices/{invoice}/scan", api.scan),
        Route("/invoices/{invoice}/analysis", api.analysis),
        Route("/invoices/{invoice}/{process}.svg", api.way),
        Route("/processes/{process}.svg", api.definition),
        Mount("/static", StaticFiles(directory=_STATIC)),
        Route("/favicon.ico", lambda _: RedirectResponse("/static/icon.svg")),
    ]


class _Api:
    def __init__(self, invoices: Invoices, buckets: Buckets, tables: Tables) -> None:
        self._invoices, self._buckets, self._tables = invoices, buckets, tables

    async def page(self, _: Request) -> Response:
        return FileResponse(_STATIC / "index.html", headers=_POLICY)

    async def layouts(self, _: Request) -> Response:
        return JSONResponse([{"layout": name, "title": each.title} for name, each in LAYOUTS.items()])

    # As a scanner does it: whatever is put here is put into the bucket, and nothing else.

    async def sample(self, request: Request) -> Response:
        name = (await read(request, _Sample)).layout
        if name not in LAYOUTS:
            raise Problem(404, "No such layout", f"there are {', '.join(LAYOUTS)}")
        return await self._put(f"{name}.png", await asyncio.to_thread(recorded_scan, name))

    async def upload(self, request: Request) -> Response:
        data = await read_bytes(request, limit=MAX_SCAN_BYTES, timeout=_SLOWEST_S)
        return await self._put(request.path_params["name"], data)

    async def _put(self, name: str, data: bytes) -> Response:
        key = _key(name)
        await self._buckets.scanned.put(key, data)
        return JSONResponse({"bucket": self._buckets.scanned.bucket, "key": key}, 201)

    # What becomes of them.

    async def invoices(self, request: Request) -> Response:
        text = request.query_params.get("limit", "100")
        limit = min(int(text), _MAX_LISTED) if re.fullmatch("[1-9][0-9]{0,5}", text) else 100
        instances = await self._invoices.manager.instances(limit=2 * limit)
        scans: dict[str, dict[str, Any]] = {}
        for each in sorted(instances, key=lambda instance: instance.started_at):
            scan = self._scan_of(each)
            scans[scan.invoice] = {"invoice_id": scan.invoice, "invoice_key": scan.key, "stage": _stage(each)}
        latest = list(scans.values())[-limit:][::-1]
        return JSONResponse(await asyncio.gather(*map(self._with_item, latest)))

    async def invoice(self, request: Request) -> Response:
        scan = await self._known(request)
        found = {"invoice_id": scan.invoice, "invoice_key": scan.key, "stage": "under way"}
        return JSONResponse(await self._with_item(found))

    async def scan(self, request: Request) -> Response:
        scan = await self._known(request)
        for objects in (self._buckets.scanned, self._buckets.processed):
            try:
                data = await objects.get(objects.bucket, scan.key, limit=MAX_SCAN_BYTES)
            except MessageTooLarge:
                raise Problem(413, "Scan too large to be shown") from None
            if data is not None:
                return _document(data)
        raise Problem(404, "No such scan", "it is gone")

    async def analysis(self, request: Request) -> Response:
        scan, objects = await self._known(request), self._buckets.analyses
        data = await objects.get(objects.bucket, f"{scan.invoice}.json", limit=MAX_ANALYSIS_BYTES)
        if data is None:
            raise Problem(404, "No analysis", "there is none yet, or it failed")
        return Response(data, media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})

    async def way(self, request: Request) -> Response:
        invoice, process = request.path_params["invoice"], request.path_params["process"]
        try:
            family = await self._invoices.manager.family(f"{invoice}-{READING}" if process == READING else invoice)
        except LookupError:
            raise Problem(404, "No such process") from None
        return Response(svg(self._invoices.manager.definition(family[0]), family), media_type="image/svg+xml")

    async def definition(self, request: Request) -> Response:
        definition = self._invoices.definitions.get(request.path_params["process"])
        if definition is None:
            raise Problem(404, "No such process", f"there are {ANALYSING} and {READING}")
        return Response(svg(definition), media_type="image/svg+xml")

    async def _with_item(self, document: dict[str, Any]) -> dict[str, Any]:
        found = await self._tables.invoices.get(document["invoice_id"])
        if found is None:
            return document
        item = InvoiceItem.model_validate_json(found.value).model_dump(mode="json")
        review = await self._tables.reviews.get(document["invoice_id"])
        return {**document, **item, "stage": item["status"], "reviewers_notified": review is not None}

    async def _known(self, request: Request) -> Scan:
        invoice = request.path_params["invoice"]
        for key in (invoice, f"{invoice}-{READING}"):
            instance = await self._invoices.manager.get(key)
            if instance is not None:
                return self._scan_of(instance)
        raise Problem(404, "No such invoice")

    def _scan_of(self, instance: Instance) -> Scan:
        state: Scan | Reading = self._invoices.definitions[instance.process].load(instance.state)
        return state if isinstance(state, Scan) else state.scan


def _stage(instance: Instance) -> str:
    return "is read" if instance.process == READING else "is analysed"


def _key(name: str) -> str:
    """A key of its own for each upload, which resembles the name of the file."""
    stem, _, suffix = re.sub(r"[^A-Za-z0-9.]+", "-", name)[-80:].strip("-.").rpartition(".")
    return f"{stem or 'scan'}-{new_id()[-8:]}" + (f".{suffix}" if suffix else "")


def _document(data: bytes) -> Response:
    """A scan from somebody else: shown as a picture, or kept as a file; never run."""
    kind = next((kind for start, kind in _IMAGES.items() if data.startswith(start)), "application/octet-stream")
    headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}
    if not kind.startswith("image/"):
        headers["Content-Disposition"] = "attachment"
    return Response(data, media_type=kind, headers=headers)
