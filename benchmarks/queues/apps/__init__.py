"""The app of each queue: how a task is declared, enqueued and served there. Imported in that queue's own environment.

PEERS_URL is the server, PEERS_SLOTS how many jobs a worker may run at the same time.
"""
