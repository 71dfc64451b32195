"""The queues that benchmarks/peers.py compares: what each is, how it is installed, its app, and one run of it."""
