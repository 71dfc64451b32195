"""A stepped clock shows in the server's TIME, and nowhere else."""

import time

import pytest

from tests.faults import clock
from tests.servers import Server


@pytest.mark.skipif(bool(clock.lacking()), reason=clock.lacking() or "-")
@pytest.mark.parametrize("seconds", [3600, -3600, -0.25])
def test_time_of_the_server_is_stepped_while_it_runs(seconds: float):
    server = Server()
    stepped = clock.Clock(server)
    with server, server.client() as client:
        before = _ahead(client)

        stepped.step(seconds)

        assert abs(before) < 0.2
        assert abs(_ahead(client) - seconds) < 0.2


def _ahead(client) -> float:
    whole, micro = client.time()
    return whole + micro / 1e6 - time.time()
