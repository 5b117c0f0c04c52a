"""Job events: a recruiting agency's database changes as ordered business events without duplicates, and two services.

    database -> change data capture -> publisher -> JobEvents.fifo -> analytics (object storage)
                                                                   -> inventory (key-value table)

`changes` and the modules after it read what changed, `translation` says it in the terms of the business, `publisher`
publishes it; `analytics` and `inventory` are the two services. ``python -m examples.job_events --help`` runs them.
"""
