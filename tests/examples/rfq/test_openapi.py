"""The OpenAPI document says what the service does: its routes, and what schemathesis finds out about its answers."""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport
from examples.rfq.api import app
from examples.rfq.booking import RideBooking
from examples.rfq.channels import MemoryChannels
from examples.rfq.openapi import BOOKING
from examples.rfq.openapi_terms import document
from examples.rfq.store import States
from examples.rfq.unicorn_openapi import UNICORNS
from examples.rfq.unicorns import Unicorns
from tests.examples.rfq.service import running


def test_the_document_has_every_route_and_no_other():
    booking = RideBooking(MemoryChannels(MemoryTransport()), States(MemoryStore(), MemoryStore(), MemoryStore()))
    routes = {
        (route.path, method.lower())
        for route in app(booking, unicorns=object.__new__(Unicorns)).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (path, verb) for path, item in document(BOOKING, UNICORNS, secured=False)["paths"].items() for verb in item
    }
    assert routes | {("/operations/", "get")} == described  # the console is an application of its own


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    state = tmp_path_factory.mktemp("openapi") / "rfq.sqlite"
    with running(state, "--unicorns", "30", "--rfq-seconds", "1") as started:
        started.everyone_there(30)
        yield started


def _operations():
    paths = document(BOOKING, UNICORNS, secured=False)["paths"]
    return [(path, verb) for path, item in paths.items() for verb in item]


@pytest.mark.parametrize(("path", "verb"), _operations())
def test_whatever_is_sent_the_answer_is_one_of_those_described(service, path, verb):
    api = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    rfqs = [service.client.post("/rfqs", json={"from": "A", "to": "B", "customer": "C"}).json() for _ in range(2)]
    known = [rfq["links"]["self"].rsplit("/", 1)[1] for rfq in rfqs]

    @hypothesis.given(hypothesis.strategies.data())
    @hypothesis.settings(max_examples=30, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    def attempt(data):
        case = data.draw(api[path][verb.upper()].as_strategy())
        if "rfq" in case.path_parameters and data.draw(hypothesis.strategies.booleans()):
            case.path_parameters["rfq"] = data.draw(hypothesis.strategies.sampled_from(known))
        case.call_and_validate(
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ],
            timeout=20,
        )

    attempt()
