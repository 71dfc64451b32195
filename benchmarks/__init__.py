"""How fast gqueue is, and what it takes: `python -m benchmarks`.

A benchmark is one file here, named like its page's section and its file of results, that holds a `Benchmark` called
BENCHMARK; its docstring is the text of its section. All else is shared: see benchmark.py.
"""
