"""Document approval: a scan is analysed by a service that answers later, then approved, or put before a person.

    scans -> approval process -> analysis jobs -> analysis -> topic "analysed" -> approval process
          -> decisions -> router -> topic "approved" | topic "pending-review" -> ledger

Patterns: process manager, request with an asynchronous reply, claim check, content-based router, publish-subscribe.
Source: SCENARIOS.md, S8 (AWS Compute Blog, document processing workflows, 2020).
"""
