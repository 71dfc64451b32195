"""A file cut at a command is what the server had answered until then; cut inside one, it loads without that one."""

import pytest

from tests.faults import aof
from tests.servers import Server


@pytest.mark.parametrize("inside", [False, True])
def test_server_that_lost_the_end_of_its_file_has_what_it_had_before(inside: bool):
    with Server(appendonly=True, **aof.SETTINGS) as server:
        with server.client() as client:
            client.set("before", "*3\r\n$3\r\nSET\r\n")
            length = aof.size(server.folder)
            client.eval("redis.call('SET', KEYS[1], 'x') redis.call('SET', KEYS[2], 'y')", 2, "after", "later")
            client.set("last", "1")
        server.kill()

        gone = aof.cut(server.folder, length, inside=inside)

        assert gone > 0
        server.start()
        with server.client() as client:
            assert client.keys() == [b"before"]
        assert ("truncated" in server.log()) is inside


def test_length_inside_a_command_cuts_before_it():
    with Server(appendonly=True, **aof.SETTINGS) as server:
        with server.client() as client:
            client.set("a", "1")
            length = aof.size(server.folder)
            client.set("b", "2")
        server.kill()

        aof.cut(server.folder, length + 5, inside=False)

        assert aof.size(server.folder) == length
