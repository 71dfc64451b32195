"""TLS, client certificates, unix sockets with a user and a database, and users with fewer rights."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from gqueue.cli.reach import Unreachable
from gqueue.cli.reach import check as reach
from gqueue.core.model import NewJob, WhenFull
from gqueue.errors import CallRefused, StoreUnavailable
from gqueue.store.check import ask
from gqueue.store.redis import RedisStore
from tests.servers import Server, executable, free_port, newer_executable, on_path
from tests.store.conftest import OpenStore


def speaks_tls(program: str | None) -> bool:
    """Return whether a server's program was built with TLS: it misses the certificate, not the directive."""
    if program is None:
        return False
    said = subprocess.run(
        [program, "--port", "0", "--tls-port", "1"], capture_output=True, text=True, timeout=10, check=False
    ).stdout
    return "tls-cert-file" in said


WITH_TLS = next((p for p in (executable(), on_path(), newer_executable()) if speaks_tls(p)), None)
needs_tls = pytest.mark.skipif(
    WITH_TLS is None or shutil.which("openssl") is None, reason="no redis-server with TLS, or no openssl"
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority (ca), a server's and a client's certificate of it, and a stranger (other)."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True)

    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", "keyUsage=critical,keyCertSign"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )
    # Python 3.13 wants to see whose key it is, and what it is for.
    (folder / "names").write_text(
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "req")
        openssl(
            *("x509", "-req", "-in", "req", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"),
            *("-extfile", "names", "-out", f"{name}.crt"),
        )
    return folder


@pytest.fixture(params=["no", "yes"])
def tls(request: pytest.FixtureRequest, certificates: Path) -> Iterator[tuple[int, Path]]:
    """Return the TLS port of a server, and the certificates; with "yes" it wants one of its clients."""
    port = free_port()
    assert WITH_TLS
    with Server(
        program=WITH_TLS,
        tls_port=str(port),
        tls_cert_file=str(certificates / "server.crt"),
        tls_key_file=str(certificates / "server.key"),
        tls_ca_cert_file=str(certificates / "ca.crt"),
        tls_auth_clients=request.param,
    ):
        yield port, certificates


def put(store: RedisStore, job_id: str = "a"):
    return store.enqueue("l", 1, [NewJob(job_id, 0.0, 0, b"{}")], when_full=WhenFull.REJECT, capacity=10)


def url_of(port: int, folder: Path, *, ca: str = "ca", client: str = "", host: str = "127.0.0.1") -> str:
    own = f"&ssl_certfile={folder / client}.crt&ssl_keyfile={folder / client}.key" if client else ""
    return f"rediss://{host}:{port}?ssl_ca_certs={folder / ca}.crt{own}"


@needs_tls
@pytest.mark.parametrize("tls", ["no"], indirect=True)
def test_calls_and_waits_go_over_tls(tls: tuple[int, Path], open_redis: OpenStore):
    port, folder = tls
    for host in ("127.0.0.1", "localhost"):
        store = open_redis(url_of(port, folder, host=host))
        put(store)
        assert store.stats().depth == 1
        assert store.wait_hint(0) in (True, False)
        assert store.wait_done(0) == ()
    assert "Redis 7" in reach(url_of(port, folder)) or "Valkey" in reach(url_of(port, folder))


@needs_tls
@pytest.mark.parametrize("tls", ["no"], indirect=True)
def test_certificate_of_an_unknown_authority_is_told_at_once(tls: tuple[int, Path], open_redis: OpenStore):
    port, folder = tls
    store = open_redis(url_of(port, folder, ca="other"), retry_for_ms=60_000)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"TLS fails: .*CERTIFICATE_VERIFY_FAILED.*look at ssl_ca_certs"):
        put(store)
    assert time.monotonic() - started < 5
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        reach(url_of(port, folder, ca="other"))

    anyone = open_redis(url_of(port, folder, ca="other").replace("?", "?ssl_cert_reqs=none&ssl_check_hostname=false&"))
    assert put(anyone).accepted == 1


@needs_tls
@pytest.mark.parametrize("tls", ["no"], indirect=True)
def test_check_tells_what_of_the_certificate_is_not_looked_at(tls: tuple[int, Path]):
    port, folder = tls
    url = url_of(port, folder)
    assert ask(f"{url}&ssl_check_hostname=true").unverified == ""
    assert ask(f"{url}&ssl_check_hostname=false").unverified == "the host"
    assert ask(f"{url}&ssl_cert_reqs=none&ssl_check_hostname=false").unverified == "the certificate"
    assert ask(f"{url}&ssl_cert_reqs=optional&ssl_check_hostname=true").unverified == ""
    with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        ask(f"{url_of(port, folder, ca='other')}&ssl_cert_reqs=optional")


@needs_tls
@pytest.mark.parametrize("tls", ["yes"], indirect=True)
def test_client_shows_its_certificate_and_without_one_is_not_let_in(tls: tuple[int, Path], open_redis: OpenStore):
    port, folder = tls
    assert put(open_redis(url_of(port, folder, client="client"))).accepted == 1

    for client in ("", "other"):
        # With TLS 1.3 the server's reason comes after the handshake, and may be overtaken by the end of the connection.
        store = open_redis(url_of(port, folder, client=client), retry_for_ms=500)
        with pytest.raises(StoreUnavailable, match=r"TLS fails|SSL|EOF occurred|closed|reset"):
            put(store)


@needs_tls
@pytest.mark.parametrize("tls", ["no"], indirect=True)
def test_tls_where_there_is_none_and_none_where_there_is_are_told(
    tls: tuple[int, Path], open_redis: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gqueue.store.redis.REPLY_TIMEOUT_S", 0.5)
    port, folder = tls
    monkeypatch.setattr("gqueue.store.reach.CONNECT_S", 0.5)
    for refused in (
        lambda: put(open_redis(f"redis://127.0.0.1:{port}", retry_for_ms=300)),
        lambda: reach(f"redis://127.0.0.1:{port}"),
        lambda: ask(f"redis://127.0.0.1:{port}"),
    ):
        with pytest.raises((StoreUnavailable, Unreachable), match=r"does it want rediss://\?"):
            refused()
    with Server(tcp=True) as plain:
        store = open_redis(url_of(plain.port, folder), retry_for_ms=600)
        with pytest.raises(StoreUnavailable, match=r"does this port speak TLS\?"):  # it waits for a line
            put(store)
        with pytest.raises(Unreachable, match=r"does this port speak TLS\?"):
            reach(url_of(plain.port, folder))


# Unix sockets.


def test_unix_socket_takes_a_user_a_password_and_a_database(server: Server, open_redis: OpenStore, queue_name: str):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "ann", "reset", "on", ">p@ss", "~*", "+@all")
        url = f"unix://ann:p%40ss@{server.socket}?db=3"
        put(open_redis(url))

        assert client.execute_command("ACL", "WHOAMI") == b"default"
        users = {each["user"] for each in client.client_list() if each["db"] == "3"}
        assert users == {"ann"}
        client.select(3)
        assert client.exists(f"gq:{{{queue_name}}}:jobs")
        assert "ann:***@" in reach(url)


# Users with fewer rights.


@pytest.mark.parametrize("program", [executable(), *filter(None, [newer_executable()])])
def test_missing_right_is_named_as_the_acl_needs_it(program: str, queue_name: str, open_redis: OpenStore):
    keys, channels = f"~gq:{{{queue_name}}}:*", f"&gq:{{{queue_name}}}:*"
    lacking = {
        "+zadd": [keys, channels, "+@all", "-zadd"],
        "+evalsha": [keys, channels, "+@all", "-evalsha"],
        f"a key of it, as `gqueue acl --queue {queue_name} --role producer` prints them": ["~other", channels, "+@all"],
        "+blpop": [keys, channels, "+@all", "-blpop"],
        channels.replace("*", "done"): [keys, "+@all"],
    }
    with Server(program=program) as own, own.client() as client:
        for number, (lacks, rights) in enumerate(lacking.items()):
            client.flushall()
            client.execute_command("ACL", "SETUSER", f"u{number}", "reset", "on", ">pw", "resetchannels", *rights)
            store = open_redis(f"unix://u{number}:pw@{own.socket}")
            calls = (partial(put, store), partial(store.wait_hint, 10), partial(store.wait_done, 0))
            told = next(filter(None, map(refusal, calls)))
            assert f"the ACL of the user lacks {lacks} " in told


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except CallRefused as refused:
        return str(refused)
    return ""
