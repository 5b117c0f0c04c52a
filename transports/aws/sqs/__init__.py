"""Amazon SQS: queues, and the subscriptions of topics and buses, which are read from queues."""
