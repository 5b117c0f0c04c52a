"""Starts the RFQ service as a user would, asks for quotes, and follows the links to the result; part of `.ci/run`."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SECONDS = 2.0
ROOT = Path(__file__).parents[1]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


OPENER = urllib.request.build_opener(_NoRedirects)


def call(url: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; redirects are not followed."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with OPENER.open(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def check(url: str) -> int:
    """Go through S1; the number of quotes."""
    while json.loads(call(f"{url}healthz")[2])["unicorns"] < 100:
        time.sleep(0.1)
    status, headers, body = call(f"{url}rfqs", {"from": "Alexanderplatz", "to": "Tempelhofer Feld", "customer": "Ada"})
    told = json.loads(body)
    assert status == 202, body
    assert headers["location"] == told["links"]["self"]
    assert told["status"] == "running"
    assert told["eta"]
    link = told["links"]["self"]
    status, headers, body = call(link)
    assert status == 200, body
    assert "responses-received" in json.loads(body)
    deadline = time.monotonic() + SECONDS + 5
    while (answer := call(link))[0] == 200:
        assert time.monotonic() < deadline, "the RFQ does not end"
        time.sleep(0.1)
    status, headers, _ = answer
    assert status == 303, answer
    status, _, body = call(headers["location"])
    assert status == 200, body
    result = json.loads(body)
    assert (result["from"], result["to"], result["customer"]) == ("Alexanderplatz", "Tempelhofer Feld", "Ada")
    assert call(f"{url}rfqs", {"from": "nowhere"})[0] == 422
    assert call(f"{url}rfqs/unknown")[0] == 404
    return len(result["quotes"])


def main() -> int:
    """Run it; the process's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", "0", "--rfq-seconds", str(SECONDS), "--unicorns", "100", "--seed", "1"]
        service = subprocess.Popen(
            [sys.executable, "-m", "examples.rfq", *options, "--state", f"{folder}/rfq.sqlite"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            assert service.stdout is not None
            first = service.stdout.readline()
            found = re.search(r"http://\S+", first)
            assert found is not None, f"the service printed no URL but {first!r}"
            quotes = check(found.group())
            service.send_signal(signal.SIGTERM)
            assert service.wait(timeout=20) == 0
        finally:
            service.kill()
            service.wait()
    print(f"RFQ smoke run: 202, 200, 303, 200 with {quotes} quotes; drained on SIGTERM")
    return 0


if __name__ == "__main__":
    sys.exit(main())
