"""What a user's ACL lacks, read from the words in which a server refuses a command, a key or a channel.

Redis before 7.2 does not say which command of a script it refused, but on which line.
"""

import re

from gqueue.store import scripts
from gqueue.store.acl import ROLES
from gqueue.store.keys import DONE

_COMMAND = re.compile(r"run the '([\w|-]+)' command")
_KEY = re.compile(r"permissions to access (a|one of the) keys?|can't access at least one of the keys")
_CHANNEL = re.compile(r"permissions to access (a|one of the) channels?")
_LINE = re.compile(r"@user_script: ?(\d+)")
_CALL = re.compile(rb"redis\.p?call\(\s*'(\w+)'")


def lacking(text: str, operation: str, queue: str) -> str:
    """Return what to add to the user's ACL after an error *text*, as in `+zadd`; "" if it is not about rights.

    *operation*: the name of the script that was sent, if one was.
    """
    command = _COMMAND.search(text)
    if command:
        return f"+{command[1].lower()}"
    if "can't run this command" in text:
        return f"+{name}" if (name := _on_its_line(text, operation)) else "the commands of its scripts"
    if _KEY.search(text):
        return _keys_of(operation, queue)
    if _CHANNEL.search(text):
        return f"&gq:{{{queue}}}:{DONE}"
    return ""


def _keys_of(operation: str, queue: str) -> str:
    # The server does not say which key; all of the queue would be far more than most roles may have.
    roles = [name for name, role in ROLES.items() if operation in role.scripts]
    least = min(roles, key=lambda name: len(ROLES[name].scripts), default="ROLE")
    return f"a key of it, as `gqueue acl --queue {queue} --role {least}` prints them"


def _on_its_line(text: str, operation: str) -> str:
    line, script = _LINE.search(text), scripts.load().get(operation)
    if line is None or script is None:
        return ""
    lines = script.text.splitlines()
    found = _CALL.search(lines[int(line[1]) - 1]) if 0 < int(line[1]) <= len(lines) else None
    return found[1].decode().lower() if found else ""
