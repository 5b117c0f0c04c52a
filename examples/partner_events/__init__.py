"""Partner events: contracts and orders of a Salesforce organisation, on their way into an order system.

    partner -> partner event bus -> rule "everything" -> queue -> intake -> bus "sales" -> rule -> order system
         \\-> object store (events over 256 KB) -------/      \\-> object store (orders over 256 KB) -/

Patterns: channel adapter (the partner's bus), claim check both ways, normalizer and message translator (the partner's
forms become ours), message filter, content enricher, dead letters, publish-subscribe. Source: the AWS Compute Blog's
article on Salesforce events through AppFlow and EventBridge, 2020.
"""
