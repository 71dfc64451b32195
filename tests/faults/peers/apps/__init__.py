"""The app of each queue: how a task is declared and enqueued there. Imported in that queue's own environment."""
