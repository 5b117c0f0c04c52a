"""The RFQ service from outside, over HTTP, as its customers see it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.examples.rfq.service import ROOT, Service, running

RIDE = {"from": "Alexanderplatz", "to": "Tempelhofer Feld", "customer": "Ada"}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with running(tmp_path_factory.mktemp("rfq") / "rfq.sqlite", "--rfq-seconds", "2", "--unicorns", "120") as started:
        started.everyone_there(120)
        yield started


def test_a_customer_gets_quotes(service):
    asked = service.client.post("/rfqs", json=RIDE)
    told = asked.json()
    assert asked.status_code == 202
    assert told["status"] == "running"
    assert asked.headers["location"] == told["links"]["self"]
    assert int(asked.headers["retry-after"]) >= 1
    assert told["eta"].endswith("Z")
    status = service.client.get(told["links"]["self"])
    assert status.status_code == 200
    assert set(status.json()) == {"links", "status", "responses-received", "eta"}
    assert service.client.get(told["links"]["result"]).status_code == 404
    result = service.follow(told["links"]["self"])
    assert {name: result[name] for name in RIDE} == RIDE
    assert result["quotes"]
    assert {"unicorn", "name", "price", "minutes"} == set(result["quotes"][0])
    assert len({quote["unicorn"] for quote in result["quotes"]}) == len(result["quotes"])


def test_the_duration_can_be_set_for_each_request(service):
    begun = time.time()
    asked = service.client.post("/rfqs", json={**RIDE, "duration": 1}).json()
    assert begun - 0.001 <= datetime.fromisoformat(asked["eta"]).timestamp() - 1 <= time.time()
    service.follow(asked["links"]["self"])


def test_progress_is_pushed(service):
    asked = service.client.post("/rfqs", json=RIDE).json()
    with service.client.stream("GET", asked["links"]["events"]) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = iter(stream.iter_lines())
        events = [
            (line.removeprefix("event: "), json.loads(next(lines).removeprefix("data: ")))
            for line in lines
            if line.startswith("event: ")
        ]
    quotes = [data for kind, data in events if kind == "quote"]
    assert events[-1][0] == "complete"
    assert sorted(map(str, events[-1][1]["quotes"])) == sorted(map(str, quotes))
    received = [data["responses-received"] for kind, data in events if kind == "progress"]
    assert received[0] == 0
    assert received == sorted(received)
    assert len(received) > 1  # answers that come close together are one step


def test_many_at_once(service):
    links = [
        service.client.post("/rfqs", json={**RIDE, "customer": f"c{n}"}).json()["links"]["self"] for n in range(50)
    ]
    results = [service.follow(link) for link in links]
    assert [result["customer"] for result in results] == [f"c{n}" for n in range(50)]
    assert all(result["quotes"] for result in results)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"[]", 422, "body"),
        (b"{}", 422, "from: Field required"),
        (json.dumps({**RIDE, "from": 7}), 422, "from: Input should be a valid string"),
        (json.dumps({**RIDE, "from": "  "}), 422, "from"),
        (json.dumps({**RIDE, "to": "x" * 201}), 422, "to"),
        (json.dumps({**RIDE, "duration": -1}), 422, "duration"),
        (json.dumps({**RIDE, "duration": 0}), 422, "duration"),
        (json.dumps({**RIDE, "duration": 3601}), 422, "duration"),
        (json.dumps({**RIDE, "duration": "10"}), 422, "duration"),
        (json.dumps({**RIDE, "surprise": 1}), 422, "surprise"),
        (json.dumps({**RIDE, "from": "x" * 20_000}), 413, "16,384"),
        (b'{"from": "\xff"}', 400, ""),
    ],
)
def test_bad_input_is_told_precisely(service, body, status, says):
    answer = service.client.post("/rfqs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert says in problem["detail"]


def test_other_wrong_requests(service):
    client = service.client
    for answer, status in [
        (client.get("/rfqs/unknown"), 404),
        (client.get("/rfqs/unknown/result"), 404),
        (client.get("/rfqs/unknown/events"), 404),
        (client.get("/nowhere"), 404),
        (client.delete("/rfqs"), 405),
        (client.post("/rfqs", content="from=a", headers={"content-type": "application/x-www-form-urlencoded"}), 415),
    ]:
        assert answer.status_code == status
        assert answer.json()["status"] == status


def test_the_page_and_the_openapi_document_are_there(service):
    page = service.client.get("/")
    assert "Ask for quotes" in page.text
    assert "script-src" in page.headers["content-security-policy"]
    assert "/rfqs" in service.client.get("/openapi.json").json()["paths"]


def test_killing_it_loses_neither_the_request_nor_the_quotes(tmp_path):
    """kill -9 in the middle of an RFQ: the next process goes on where it ended."""
    state = tmp_path / "rfq.sqlite"
    options = ("--rfq-seconds", "5", "--unicorns", "120")
    with running(state, *options) as first:
        first.everyone_there(120)
        link = first.client.post("/rfqs", json=RIDE).json()["links"]["self"]
        path = link.split("/", 3)[3]
        while first.client.get(link).json()["responses-received"] < 2:
            time.sleep(0.02)
        before = _quotes_so_far(first, path)
        first.kill()
    with running(state, *options) as second:
        status = second.client.get(f"/{path}")
        if status.status_code == 200:  # on a slow machine its time is over when the next process is there
            assert status.json()["responses-received"] >= 2
        result = second.follow(f"/{path}")
        unicorns = [quote["unicorn"] for quote in result["quotes"]]
        assert set(before) <= set(unicorns)
        assert len(set(unicorns)) == len(unicorns)


def _quotes_so_far(service: Service, path: str) -> list[str]:
    found: list[str] = []
    with service.client.stream("GET", f"/{path}/events") as stream:
        lines = iter(stream.iter_lines())
        for line in lines:
            if line == "event: progress":
                return found
            if line == "event: quote":
                found.append(json.loads(next(lines).removeprefix("data: "))["unicorn"])
    return found


def test_sigterm_ends_it_cleanly(tmp_path):
    with running(tmp_path / "rfq.sqlite", "--unicorns", "10") as started:
        started.client.post("/rfqs", json=RIDE)
        assert started.end() == 0


def test_the_command_explains_itself_and_refuses_what_cannot_be():
    def command(*options: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "examples.rfq", *options]
        return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)

    said = command("--help")
    assert said.returncode == 0
    for option in ("--transport", "--port", "--rfq-seconds", "--endpoint-url"):
        assert option in said.stdout
    for wrong in (["--rfq-seconds", "-1"], ["--transport", "pigeon"], ["--port", "99999"], ["--unicorns", "-1"]):
        assert command(*wrong).returncode == 2


def test_a_taken_port_is_named(tmp_path):
    with running(tmp_path / "rfq.sqlite", "--unicorns", "0") as started:
        port = str(started.client.base_url.port)
        said = subprocess.run(
            [sys.executable, "-m", "examples.rfq", "--port", port, "--state", str(Path(tmp_path) / "other.sqlite")],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert said.returncode == 1
        assert "choose another one" in said.stderr
