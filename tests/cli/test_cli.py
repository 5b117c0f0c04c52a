"""The command ``eip``: what it prints, its exit codes, and that it says which extra is missing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from typer.testing import CliRunner

import eip
from eip import Message
from eip.channels import with_dead_letter_headers
from eip.cli import main
from eip.cli._common import console, given, run_with_cleanup, stderr
from eip.cli.app import app
from eip.cost import prices
from eip.errors import DecodeError
from eip.topology import QueueSpec, Topology
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    """Lines are not cut, however wide the terminal was when the consoles were made."""
    for each in (console, stderr):
        monkeypatch.setattr(each, "width", 200)


@pytest.fixture
def terminal(monkeypatch):
    """Results go to a terminal, not to a pipe."""
    monkeypatch.setattr(console, "_force_terminal", True)


def ran(*arguments: str, stdin: str | None = None):
    return CliRunner(env={"NO_COLOR": "1"}).invoke(app, arguments, input=stdin)


def test_without_typer_it_says_which_extra_to_install(monkeypatch, capsys):
    monkeypatch.setattr("eip.cli.find_spec", lambda name: None if name == "typer" else object())
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "eip needs typer: pip install aioeip[cli]\n"


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "eip", "--help"], capture_output=True, text=True, check=True)
    for verb in ("cost", "match", "redrive", "replay"):
        assert verb in done.stdout


def test_every_verb_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    callbacks = [each.callback for each in app.registered_commands]
    verbs = {each.__name__.replace("_", "-") for each in callbacks if each is not None}
    verbs |= {str(group.name) for group in app.registered_groups}
    assert {line.removeprefix("## eip ") for line in page.splitlines() if line.startswith("## ")} == verbs


@pytest.mark.parametrize("verb", ["send", "scatter"])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("{}", "-a", "x=1e999"), "attribute 'x' must be a finite number"),
        (("{}", "--type", "\udcff"), "type is not Unicode text"),
        (("latin",), "latin is not text in UTF-8"),
    ],
)
def test_a_message_that_cannot_be_made_is_told_in_one_line(verb, arguments, text, tmp_path, monkeypatch):
    """Fault 17, on the command line: a traceback."""
    monkeypatch.chdir(tmp_path)
    Path("latin").write_bytes(b"\xff")
    result = ran(verb, "orders", *arguments, "--transport", "aws")
    assert result.exit_code == 2, result.output
    assert text in result.output
    assert "Traceback" not in result.output


# eip cost


def test_cost_prints_a_table_with_each_remark_once(terminal):
    result = ran("cost", "--per-month", "100e6", "--size", "1024", "--share", "1", "--share", "0.25", "--linger", "5")
    assert result.exit_code == 0
    assert "SNS + SQS, filtered, packed" in result.output
    assert "prices of us-east-1" in result.output
    assert result.output.count("without input transformation") == 1
    assert "Packing pays here" in result.output


def test_cost_for_programs_at_prices_of_a_date_and_of_ones_own(tmp_path):
    plain = json.loads(ran("cost", "--rate", "10", "--on", "2021-01-01", "--json").stdout)
    assert plain["prices"]["date"] == "2020-12-01"
    mine = tmp_path / "mine.json"
    rates = {**dict.fromkeys(_rates(), 0.0), "sqs.standard.million": 7.0}
    mine.write_text(json.dumps({"region": "moon", "date": "2020-01-01", "rates": rates}))
    plain = json.loads(ran("cost", "--rate", "10", "--region", "moon", "--prices", str(mine), "--json").stdout)
    (sqs,) = (each for each in plain["alternatives"] if each["name"] == "SQS")
    assert sqs["monthly"] == pytest.approx(7.0 * sum(item["quantity"] for item in sqs["items"]))


def test_cost_counts_functions_and_workflows(terminal):
    given = ("cost", "--per-month", "1e6", "--function-seconds", "1", "--transitions", "5", "--workflow-seconds", "2")
    result = ran(*given, "--on", "2020-11-30")
    assert result.exit_code == 0, result.output
    for dollars in ("2.28", "8.54", "16.87", "25.21", "33.54", "49.17"):
        assert dollars in result.output
    assert "Workflows: $125.00 a month as Standard, $3.08 as Express" in result.output
    plain = json.loads(ran(*given, "--json").stdout)
    assert plain["workflows"]["standard"] == 125.0
    assert plain["functions"]["128"] == pytest.approx(2.283, abs=0.001)
    assert ran("cost", "--rate", "1", "--function-seconds", "-1").exit_code == 2


def _rates():
    return prices().rates


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_cost_draws(tmp_path, suffix):
    path = tmp_path / f"plot.{suffix}"
    assert ran("cost", "--rate", "10", "--plot", str(path)).exit_code == 0
    assert path.stat().st_size > 1000


def test_cost_says_which_extra_a_plot_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "eip.cli._plot", None)
    result = ran("cost", "--rate", "10", "--plot", str(tmp_path / "plot.svg"))
    assert (result.exit_code, "pip install aioeip[plot]" in result.output) == (1, True)


def test_cost_compares_the_services(terminal):
    assert "input transformation" in ran("cost", "--services").output
    assert json.loads(ran("cost", "--services", "--json").stdout)["ordering"]["EventBridge"] == "no"


@pytest.mark.parametrize(
    "arguments", [(), ("--rate", "1", "--per-month", "1"), ("--rate", "0"), ("--rate", "1", "--on", "1999-01-01")]
)
def test_cost_refuses_what_makes_no_sense(arguments):
    assert ran("cost", *arguments).exit_code == 2


# eip match


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (['{"a": [1]}', '{"a": 1}'], 0, "matches"),
        (['{"a": [1]}', '{"a": 2}'], 1, "does not match"),
        (['{"a": [1]}'], 0, "valid"),
        (['{"k": ["v"]}', '{"k": "v"}', "--as", "attributes"], 0, "matches"),
        (['{"a": {"b": [{"prefix": "x"}]}}', '{"a": {"b": "xy"}}', "--as", "body"], 0, "matches"),
        (['{"a": 1}', '{"a": 1}'], 2, "InvalidPattern"),
        (['{"a": [1]}', "{"], 2, "DecodeError"),
        (["no-such-file", "{}"], 2, "neither JSON nor a file"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("terminal")
def test_match(arguments, code, said):
    result = ran("match", *arguments)
    assert result.exit_code == code
    assert said in result.output


def test_match_reads_files_and_standard_input(tmp_path):
    pattern = tmp_path / "pattern.json"
    pattern.write_text('{"a": [1]}')
    assert ran("match", str(pattern), "-", stdin='{"a": 1}').exit_code == 0


def test_in_a_pipe_match_and_cost_are_a_line_of_json():
    for arguments, code, found in (
        (('{"a": [1]}', '{"a": 1}'), 0, True),
        (('{"a": [1]}', '{"a": 2}'), 1, False),
        (('{"a": [1]}',), 0, None),
    ):
        result = ran("match", *arguments)
        (line,) = result.stdout.splitlines()
        assert (result.exit_code, json.loads(line)["matches"]) == (code, found)
    (line,) = ran("cost", "--rate", "10").stdout.splitlines()
    assert json.loads(line)["prices"]["region"] == "us-east-1"
    (line,) = ran("cost", "--services").stdout.splitlines()
    assert json.loads(line)["ordering"]["EventBridge"] == "no"


def test_match_says_which_services_can_evaluate_it(terminal):
    plain = json.loads(ran("match", '{"a": [1]}', "--where", "--json").stdout)
    assert plain["matches"] is None
    assert plain["where"]["eventbridge"].startswith("eventbridge: evaluated there")
    assert "eventbridge: evaluated there" in ran("match", '{"a": [1]}', "--where").output


# eip redrive


@pytest.fixture
async def dead_letters(moto_server):
    """Four dead letters, two of each kind, and where they failed."""
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url, long_poll=1.0) as aws:
        await Topology(QueueSpec("redriven")).apply(aws)
        dead = aws.queue(QueueSpec("redriven").dead_letter_name or "")
        async with dead.receiver():
            for number in range(4):
                message = Message({"n": number}, attributes={"kind": "ab"[number % 2]})
                await dead.send(with_dead_letter_headers(message, "ValueError: [odd]", source="redriven", count=1))
        yield dead, aws.queue("redriven")


@pytest.mark.aws
async def test_redrive_shows_moves_some_and_moves_the_rest(moto_server, dead_letters, monkeypatch):
    dead, queue = dead_letters
    where = ("--region", moto_server.region, "--endpoint-url", moto_server.url)
    known = {**os.environ, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

    async def done(*options: str) -> tuple[int | None, str, str]:
        command = (sys.executable, "-m", "eip", "redrive", dead.name, queue.name, *where, *options)
        process = await asyncio.create_subprocess_exec(*command, env=known, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    code, out, _ = await done("--dry-run", "--filter", '{"kind": ["a"]}')
    assert code == 0
    (line,) = out.splitlines()
    looked = json.loads(line)
    assert looked["how"] == "copied, then deleted: filter, dry_run asked for"
    assert (looked["dry_run"], looked["native"], looked["reasons"]) == (True, False, {"ValueError: [odd]": 4})
    assert (looked["moved"], looked["left"], looked["failed"]) == (2, 2, 0)
    monkeypatch.setattr(console, "_force_terminal", True)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    shown = await asyncio.to_thread(ran, "redrive", dead.name, queue.name, *where, "--dry-run")
    assert "4 would be moved, 0 left, 0 failed" in shown.output
    assert "ValueError: [odd]" in shown.output
    assert (await queue.depth())["ready"] == 0
    code, out, _ = await done("--body-filter", '{"n": [0, 2]}', "--rate", "100", "--limit", "3", "--json")
    plain = json.loads(out)
    assert plain == {
        "dry_run": False,
        "native": False,
        "how": "copied, then deleted: filter, limit asked for",
        "moved": 2,
        "left": 2,
        "failed": 0,
        "reasons": {"ValueError: [odd]": 4},
    }
    assert (await queue.depth())["ready"] == 2
    rest = await asyncio.to_thread(ran, "redrive", dead.name, queue.name, *where)  # moto moves none by itself
    assert "2 moved, 0 left, 0 failed" in rest.output
    assert "copied, then deleted: the service does not move them" in rest.output.replace("\n", " ")
    back = await asyncio.to_thread(ran, "redrive", dead.name, *where)
    assert (back.exit_code, "500" in back.output) == (3, True)
    assert "name the destination queue" in back.output.replace("\n", " ")
    missing = await asyncio.to_thread(ran, "redrive", "nowhere", queue.name, *where)
    assert (missing.exit_code, "ChannelNotFound" in missing.output) == (3, True)


@pytest.mark.activemq
async def test_redrive_on_a_broker(activemq_broker):
    url = f"stomp://127.0.0.1:{activemq_broker.port}"
    known = {**os.environ, "ACTIVEMQ_USER": activemq_broker.user, "ACTIVEMQ_PASSWORD": activemq_broker.password}
    async with ActiveMQTransport(activemq_broker.url) as transport:
        dead, queue = transport.queue("cli-dead"), transport.queue("cli-queue")
        await dead.send(*(Message(number, attributes={"kind": "ab"[number % 2]}) for number in range(4)))
        options = ("--broker", url, "--filter", '{"kind": ["a"]}', "--json")
        command = (sys.executable, "-m", "eip", "redrive", dead.name, queue.name, *options)
        process = await asyncio.create_subprocess_exec(*command, env=known, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        assert process.returncode == 0, err
        assert (json.loads(out)["moved"], json.loads(out)["left"]) == (2, 2)
        async with queue.receiver() as receiver:
            taken = list(await receiver.receive(10, wait=20))
            while len(taken) < 2:
                taken += await receiver.receive(10, wait=20)
            await receiver.ack(taken)
        assert sorted(each.message.body for each in taken) == [0, 2]


def test_redrive_refuses_what_makes_no_sense():
    assert ran("redrive", "a", "b", "--filter", "{}", "--body-filter", "{}").exit_code == 2
    assert ran("redrive", "a", "b", "--filter", '{"kind": 1}').exit_code == 2


def test_redrive_says_which_extra_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "eip.transports.aws", None)
    monkeypatch.setitem(sys.modules, "eip.transports.activemq", None)
    for options, extra in ((), "aws"), (("--broker", "stomp://127.0.0.1:1"), "activemq"):
        result = ran("redrive", "a", "b", *options)
        assert (result.exit_code, f"pip install aioeip[{extra}]" in result.output) == (2, True)


def test_redrive_takes_its_transport_from_the_environment_too(monkeypatch):
    monkeypatch.setenv("EIP_TRANSPORT", "activemq")
    found = ran("redrive", "a", "b")
    assert (found.exit_code, "EIP_BROKER_URL" in found.output) == (2, True)


def test_sigterm_lets_a_command_remove_what_it_made():
    removed: list[bool] = []

    async def follow() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            removed.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_with_cleanup(follow())
    assert removed == [True]


def test_it_prints_its_version():
    result = ran("--version")
    assert (result.exit_code, result.stdout) == (0, f"eip {eip.__version__}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [("--version",), ("cost", "--help"), ("match", '{"a": [1]}', '{"a": 1}')])
def test_a_full_disk_behind_its_output_is_one_line(arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "eip", *arguments], stdout=full, stderr=PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (74, "eip: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("name", ["a" * 5000, "nul\0", "folder"])
def test_a_file_that_cannot_be_read_is_named_in_short(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    result = ran("match", name, "{}")
    assert result.exit_code == 2
    assert "is neither JSON nor a file" in result.output
    assert len(result.output) < 1000


def test_a_pipe_is_a_file_too():
    ends = os.pipe()
    os.write(ends[1], b'{"a": [1]}')
    os.close(ends[1])
    assert ran("match", f"/dev/fd/{ends[0]}", '{"a": 1}').exit_code == 0
    os.close(ends[0])


def test_a_closed_standard_input_is_an_error_in_words(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DecodeError, match="standard input is closed"):
        given("-")


def test_a_plot_that_cannot_be_written_names_its_file(tmp_path):
    result = ran("cost", "--rate", "1", "--size", "1", "--plot", str(tmp_path / "no" / "x.svg"))
    assert result.exit_code == 2
    assert "x.svg cannot be written: No such file or directory" in result.output
