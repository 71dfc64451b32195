"""Draw the states of a job into the README, from the table in `gqueue.core.lifecycle`: `python docs/states.py`.

The picture is a mermaid block between two markers; a test fails while it is not what the table says.
"""

from collections.abc import Mapping
from pathlib import Path

from gqueue.core.lifecycle import FINAL, TABLE, Move
from gqueue.core.model import State

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- states: drawn by docs/states.py from gqueue/core/lifecycle.py -->"
END = "<!-- end of states -->"


def draw(table: Mapping[tuple[State, Move], State] = TABLE, final: frozenset[State] = FINAL) -> str:
    """Return the table as a mermaid state diagram; moves between the same two states share an arrow.

    `unknown`, where a job comes from and where it is forgotten to, is mermaid's `[*]`.
    """
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, move), target in table.items():
        arrows.setdefault((state, target), []).append(move.value)
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [
        f"    {_node(state)} --> {_node(target)}: {', '.join(moves)}" for (state, target), moves in arrows.items()
    ]
    lines += ["    classDef final font-weight:bold"]
    lines += [f"    class {state.value} final" for state in State if state in final]
    return "\n".join([*lines, "```"])


def with_picture(text: str) -> str:
    """Return the README's *text* with the picture between its markers drawn anew; raise ValueError without markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the README has no {BEGIN!r} followed by {END!r}")
    return f"{before}{BEGIN}\n{draw()}\n{END}{after}"


def _node(state: State) -> str:
    return "[*]" if state is State.UNKNOWN else state.value


if __name__ == "__main__":
    README.write_text(with_picture(README.read_text()))
