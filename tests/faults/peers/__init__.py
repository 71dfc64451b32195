"""Other queues under the faults of the campaign, beside gqueue: see __main__.py."""
