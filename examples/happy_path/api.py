"""The HTTP interfaces of the two applications, and the page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from eip.patterns.process_diagram import svg
from examples.happy_path.front import Front, Upload
from examples.happy_path.model import MAX_BYTES, PLACES
from examples.happy_path.uploads import EXPIRES_S
from examples.happy_path.workflow import Workflow
from examples.rfq.bodies import read
from examples.rfq.problems import Problem

__all__ = ["front_routes", "workflow_routes"]

_STATIC: Final = Path(__file__).with_name("static")
_STREAM_S: Final = 30.0
"""Seconds that a stream of events is open; the browser comes back by itself."""


class _Wanted(BaseModel):
    """The body of `POST /uploads`."""

    place: str = Field(alias="placeId", max_length=64)
    size: int = Field(gt=0, strict=True)


class _Version(BaseModel):
    version: int = Field(strict=True)


def front_routes(front: Front, store_origin: str = "") -> list[BaseRoute]:
    """The front's routes.

    Args:
        front: behind them.
        store_origin: where browsers put objects to and get them from, if that is elsewhere.
    """
    api = _FrontApi(front, store_origin)
    return [
        Route("/", api.page),
        Route("/places", api.places),
        Route("/places/{place}/photos", api.photos),
        Route("/uploads", api.upload, methods=["POST"]),
        Route("/photos/{photo}", api.photo),
        Route("/photos/{photo}/events", api.events),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]


def workflow_routes(workflow: Workflow) -> list[BaseRoute]:
    """The workflow's routes: which version is deployed, and pictures of versions and of photos' ways."""
    api = _WorkflowApi(workflow)
    return [
        Route("/workflow", api.versions),
        Route("/workflow", api.deploy, methods=["PUT"]),
        Route("/workflow/versions/{version:int}.svg", api.definition),
        Route("/workflow/photos/{photo}.svg", api.history),
    ]


class _FrontApi:
    def __init__(self, front: Front, store_origin: str) -> None:
        self._front = front
        places = f"'self' {store_origin}".rstrip()
        self._policy = f"default-src 'self'; img-src {places}; connect-src {places}"

    async def page(self, _: Request) -> Response:
        headers = {"Content-Security-Policy": self._policy, "Cache-Control": "no-cache"}
        return FileResponse(_STATIC / "index.html", headers=headers)

    async def places(self, _: Request) -> Response:
        return JSONResponse([each.model_dump() for each in PLACES])

    async def photos(self, request: Request) -> Response:
        place = _known_place(request.path_params["place"])
        return JSONResponse([await self._document(each) for each in await self._front.latest(place)])

    async def upload(self, request: Request) -> Response:
        wanted = await read(request, _Wanted)
        if wanted.size > MAX_BYTES:
            raise Problem(413, "Photo too large", f"at most {MAX_BYTES:,} bytes, got {wanted.size:,}")
        upload, url = await self._front.request(_known_place(wanted.place), wanted.size)
        document = await self._document(upload)
        signed = {"key": upload.key, "method": "PUT", "url": url, "expires-in": EXPIRES_S}
        return JSONResponse({**document, "upload": signed}, 201, {"Location": document["links"]["self"]})

    async def photo(self, request: Request) -> Response:
        upload = await self._known(request)
        return JSONResponse(await self._document(upload))

    async def events(self, request: Request) -> Response:
        upload = await self._known(request)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._blocks(upload.photo), media_type="text/event-stream", headers=headers)

    async def _blocks(self, photo: str) -> AsyncIterator[str]:
        """Server-sent events: the photo's document whenever it is another one."""
        async for upload in self._front.watch(photo, seconds=_STREAM_S):
            yield f"event: photo\ndata: {json.dumps(await self._document(upload))}\n\n"

    async def _known(self, request: Request) -> Upload:
        upload = await self._front.get(request.path_params["photo"])
        if upload is None:
            raise Problem(404, "No such photo")
        return upload

    async def _document(self, upload: Upload) -> dict[str, Any]:
        links = await self._front.links(upload)
        path = f"/photos/{upload.photo}"
        return {
            **upload.model_dump(mode="json", exclude={"key", "sizes", "requested_at"}),
            "sizes": [{**each.model_dump(exclude={"key"}), "url": links[each.name]} for each in upload.sizes],
            "links": {"self": path, "events": f"{path}/events"},
        }


class _WorkflowApi:
    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    async def versions(self, _: Request) -> Response:
        return JSONResponse({"version": self._workflow.version, "versions": list(self._workflow.definitions)})

    async def deploy(self, request: Request) -> Response:
        version = (await read(request, _Version)).version
        if version not in self._workflow.definitions:
            raise Problem(422, "No such version", f"there are {', '.join(map(str, self._workflow.definitions))}")
        self._workflow.deploy(version)
        return await self.versions(request)

    async def definition(self, request: Request) -> Response:
        definition = self._workflow.definitions.get(request.path_params["version"])
        if definition is None:
            raise Problem(404, "No such version")
        return Response(svg(definition), media_type="image/svg+xml")

    async def history(self, request: Request) -> Response:
        picture = await self._workflow.picture(request.path_params["photo"])
        if picture is None:
            raise Problem(404, "No such photo")
        return Response(picture, media_type="image/svg+xml")


def _known_place(place: str) -> str:
    if not any(each.id == place for each in PLACES):
        raise Problem(404, "No such place", f"there are {', '.join(each.id for each in PLACES)}")
    return place
