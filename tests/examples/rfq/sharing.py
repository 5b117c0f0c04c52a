"""What must be true of two service processes that share their transport and state, whatever these are."""

from __future__ import annotations

import json
import random
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from tests.examples.rfq.service import Service, running

RIDE = {"from": "Alexanderplatz", "to": "Tempelhofer Feld", "customer": "Ada"}
UNICORNS = 12
"""Of each process."""


def ask(service: Service, **more: Any) -> str:
    """The path of a new RFQ."""
    answer = service.client.post("/rfqs", json={**RIDE, **more})
    assert answer.status_code == 202, answer.text
    return str(urlsplit(answer.json()["links"]["self"]).path)


def quotes_from(service: Service, path: str, count: int) -> set[str]:
    """The unicorns of the first quotes that are pushed; all of them if it ends before."""
    found: set[str] = set()
    with service.client.stream("GET", f"{path}/events") as stream:
        lines = iter(stream.iter_lines())
        for line in lines:
            if line == "event: quote":
                found.add(json.loads(next(lines).removeprefix("data: "))["unicorn"])
            if len(found) >= count or line == "event: complete":
                break
    return found


def killing_one_loses_nothing(state: str, seconds: float, *options: str) -> None:
    """Two processes; one takes RFQs and is killed (-9): the other tells of them, and completes them at their time."""
    options = ("--rfq-seconds", str(seconds), *options)
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(running(state, *options, "--unicorns", str(UNICORNS), "--herd", herd)) for herd in "ab"
        )
        for service in (first, second):
            service.everyone_there(2 * UNICORNS)
        quick = ask(first, duration=1.5)
        assert second.follow(quick)["quotes"] == first.follow(quick)["quotes"]
        paths = [ask(first) for _ in range(4)]
        asked = time.monotonic()
        paths.append(ask(first))
        assert {service.client.get(paths[0]).status_code for service in (first, second)} == {200}
        before = {path: quotes_from(second, path, 1) for path in paths[:2]}  # pushed by the one that did not take it
        first.kill()
        heard: set[str] = set()
        for path in paths:
            result = second.follow(path)
            unicorns = [quote["unicorn"] for quote in result["quotes"]]
            assert before.get(path, set()) <= set(unicorns)
            assert len(set(unicorns)) == len(unicorns)
            heard.update(unicorn.partition("-")[0] for unicorn in unicorns)
        assert "b" in heard
        assert seconds - 2 <= time.monotonic() - asked <= seconds + 60
        third = stack.enter_context(running(state, *options, "--unicorns", "0"))
        assert [third.client.get(f"{path}/result").json()["quotes"] for path in paths] == [
            second.client.get(f"{path}/result").json()["quotes"] for path in paths
        ]
        assert third.end() == 0
        assert second.end() == 0


def killing_again_and_again(state: str, rounds: int, *options: str) -> None:
    """Two processes take RFQs and are killed in turn, at any moment; each RFQ has one result, and it never changes."""
    options = ("--rfq-seconds", "8", "--unicorns", str(UNICORNS), *options)
    dice = random.Random(7)
    with ExitStack() as stack:
        services = {herd: stack.enter_context(running(state, *options, "--herd", herd)) for herd in "ab"}
        for number in range(rounds):
            victim, survivor = ("a", "b") if number % 2 else ("b", "a")
            paths = [ask(services[dice.choice("ab")]) for _ in range(10)]
            time.sleep(dice.uniform(0, 7))
            services[victim].kill()
            services[victim] = stack.enter_context(running(state, *options, "--herd", victim))
            for path in paths:
                result = services[survivor].follow(path)
                unicorns = [quote["unicorn"] for quote in result["quotes"]]
                assert len(set(unicorns)) == len(unicorns)
                assert services[victim].client.get(f"{path}/result").json()["quotes"] == result["quotes"]
