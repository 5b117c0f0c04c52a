"""Invoices: scans are analysed by a service that answers later, read, and approved for payment or put before a person.

    scanned-invoices -> "Object Created" -> analysis process -> Textract -> topic -> queue -> analysis process
        -> invoice-analyses -> "Object Created" -> reading process -> table, processed-invoices | topic "pending-review"

Patterns: process manager, request with an asynchronous reply, publish-subscribe, claim check (events carry keys, never
scans), content-based choices, anti-corruption (Textract's blocks become an invoice). Source: the AWS Compute Blog's
article on robotic process automation with Step Functions and Amazon Textract, 2020.
"""
