"""A queue of 100,000 plain texts, drained in batches of 100, one batch at a time or several.

Run it with ``make mq-drain``, or ``python -m examples.mq_drain --help``.
"""
