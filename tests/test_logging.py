"""Logs go where the application sends its own: structlog where it is configured, the standard library otherwise."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import structlog
from structlog.testing import capture_logs

from eip._logging import get_logger


@pytest.fixture(autouse=True)
def _unconfigured():
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_an_application_without_structlog_gets_records_of_the_standard_library(caplog):
    with caplog.at_level(logging.INFO, logger="eip.consumer"):
        get_logger("eip.consumer").bind(channel="orders").warning("lease_lost", message_id="a b\n", attempt=2)
    (record,) = caplog.records
    assert record.getMessage() == "lease_lost channel=orders message_id='a b\\n' attempt=2"
    assert (record.name, record.levelno, record.event, record.fields["message_id"]) == (
        "eip.consumer",
        logging.WARNING,
        "lease_lost",
        "a b\n",
    )
    assert record.funcName == test_an_application_without_structlog_gets_records_of_the_standard_library.__name__


def test_an_application_with_structlog_gets_its_events():
    with capture_logs() as logs:
        get_logger("eip.consumer").error("dead_letter_failed", channel="orders")
    assert logs == [{"event": "dead_letter_failed", "channel": "orders", "log_level": "error"}]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TypeError("closed"), RecursionError()])
def test_a_line_that_cannot_be_written_ends_no_work(error, capsys):
    """A full disk or a closed pipe behind the log ended `eip run`."""

    def fails(*_):
        raise error

    structlog.configure(processors=[fails])
    get_logger("eip.consumer").error("dead_letter_failed", channel="orders")
    reported = capsys.readouterr().err
    assert "Logging error" in reported
    assert "dead_letter_failed" in reported


def test_a_name_can_be_silenced_as_any_other(caplog):
    logging.getLogger("eip").setLevel(logging.CRITICAL)
    try:
        get_logger("eip.consumer").error("dead_letter_failed")
    finally:
        logging.getLogger("eip").setLevel(logging.NOTSET)
    assert not caplog.records


def test_placeholders_and_errors_are_written_as_they_are(caplog):
    error = ValueError("%s %d")
    with caplog.at_level(logging.ERROR, logger="eip.service"):
        get_logger("eip.service").error("service_failed", service="%s", exc_info=error)
    (record,) = caplog.records
    assert record.getMessage() == "service_failed service='%s'"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_structlog_can_be_configured_after_the_logger_was_made():
    logger = get_logger("eip.consumer")
    assert not structlog.is_configured()
    with capture_logs() as logs:
        logger.info("started")
    assert [each["event"] for each in logs] == ["started"]


def test_importing_the_library_imports_no_structlog():
    script = "import sys, eip, eip.patterns.scatter_gather, eip.transports.memory; print('structlog' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_an_error_that_is_not_unicode_is_written_escaped(caplog):
    """Handlers encode what they write: a lone surrogate, as of a file name, would make them fail."""
    with caplog.at_level(logging.ERROR, logger="eip.service"):
        get_logger("eip.service").error("service_failed", exc_info=ValueError("no file \udcff.txt"))
    assert "ValueError: no file \\udcff.txt" in caplog.text
    caplog.text.encode()
