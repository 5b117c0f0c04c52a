"""The same jitter in every run of a test: with it, virtual time makes the same run."""

from __future__ import annotations

import random

import pytest


@pytest.fixture(autouse=True)
def same_jitter():
    """Imported by the conftest of each folder whose tests run in virtual time."""
    random.seed(0)
