"""Happy Path: photos of places, and a workflow that changes while it runs.

    browser -> object store -> "Object Created" -> front -> bus -> workflow (versions 1 to 4) -> bus -> front -> browser

Two applications joined only by a bus. Patterns: process manager with versions, claim check (the event carries the
photo's key), publish-subscribe with filters, content-based choices, anti-corruption (an event of the store becomes
one of the application).
"""
