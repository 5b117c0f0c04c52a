"""Replay of a bookshop's archive: a test environment is hydrated, and a new feature is put under load from history.

Run it with ``make replay``, or ``python -m examples.replay --help``.
"""
