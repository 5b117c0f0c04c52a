"""``eip schemas``: documents and pages for people and pipes, and exit codes by what breaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from eip.cli.app import app

APP = "tests.cli.apps:make_app"


def ran(*arguments: str, stdin: str | None = None) -> Any:
    return CliRunner(env={"NO_COLOR": "1", "EIP_TRANSPORT": "memory"}).invoke(app, ("schemas", *arguments), input=stdin)


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "cli.json"
    assert ran("export", APP, "-o", str(path), "--version", "1.2.3").exit_code == 0
    return path


def test_export_writes_the_document_or_the_page(exported):
    document = json.loads(ran("export", APP, "--title", "orders").stdout)
    assert document["info"] == {"title": "orders", "version": "1.0.0"}
    assert json.loads(exported.read_text())["info"]["version"] == "1.2.3"
    page = ran("export", APP, "--html")
    assert page.exit_code == 0
    assert page.stdout.startswith("<!doctype html>")


def test_check_compares_files_and_applications(exported, tmp_path):
    assert ran("check", str(exported), APP).exit_code == 0
    assert ran("check", "-", APP, stdin=exported.read_text()).exit_code == 0
    document = json.loads(exported.read_text())
    document["components"]["schemas"]["Order"]["required"].append("customer")
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))
    result = ran("check", str(exported), str(changed))
    assert result.exit_code == 1
    (line,) = map(json.loads, result.stdout.splitlines())
    assert (line["side"], line["path"], line["kind"], line["channel"]) == (
        "producer",
        "/customer",
        "missing",
        "queue cli-orders",
    )


def test_check_against_the_documents_of_others(exported, tmp_path):
    document = json.loads(exported.read_text())
    for operation in document["operations"].values():
        operation["action"] = {"send": "receive", "receive": "send"}[operation["action"]]
    document["info"]["title"] = "billing"
    document["components"]["schemas"]["Order"]["properties"]["id"]["type"] = "string"
    other = tmp_path / "billing.json"
    other.write_text(json.dumps(document))
    result = ran("check", str(exported), APP, "--against", str(other))
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert {(each["who"], each["side"], each["path"]) for each in found} == {
        ("billing", "consumer", "/id"),
        ("billing", "producer", "/id"),
    }


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("export", "tests.cli.apps:not_an_app"), "must be an App"),
        (("export", "nowhere"), "must be module:attribute"),
        (("export", APP, "-o", "/nowhere/at/all.json"), "cannot be written"),
        (("check", "nowhere.json", APP), "neither JSON nor a file"),
        (("check", "old.yaml", APP), "convert it to JSON"),
        (("check", "{nonsense", APP), "is not a JSON document"),
        (("check", '{"openapi": "3.1.0"}', APP), "neither an AsyncAPI 3 document nor a JSON Schema"),
        (("check", "[1]", APP), "must be an object"),
        (("check", APP, "tests.cli.apps:missing"), "has no 'missing'"),
    ],
)
def test_what_cannot_be_is_exit_code_2(arguments, text):
    result = ran(*arguments)
    assert (result.exit_code, text in result.output) == (2, True), result.output
