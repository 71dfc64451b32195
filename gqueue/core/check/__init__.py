"""What `gqueue check` makes of what it found: facts in, lines out; asking is the part of `store.check` and `cli.check`.

`verdict` is what a line is; `server`, `process` and `queues` judge; `vulnerabilities` is the table of known ones.
"""
