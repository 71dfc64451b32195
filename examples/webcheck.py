"""Look at many web pages at once: what greenlets are for.

A page takes its time to answer, and the worker has nothing to do meanwhile: with 50 slots one process waits for 50
pages at once. The task is plain blocking code, urllib here and requests just as well; the worker has patched it.

Worker:    python -m gqueue --app examples.webcheck:queue --workers 50
Producer:  python examples/webcheck.py             (pages of a test server, which it starts itself)
           python examples/webcheck.py URL ...     (pages of your own)
"""

import argparse
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import gqueue

PAGES = 100
DELAY_S = 0.2

queue = gqueue.Queue("webcheck", capacity=200)


@queue.task(timeout=2, max_attempts=3, backoff=gqueue.Backoff(base=0.2, cap=2))
def check(url: str) -> dict[str, Any]:
    """Return status and size of a page, and how long it took.

    A page that is not there is a result. A server that fails may do better in a moment: the job is tried again. One
    that never answers is ended by the time limit.
    """
    if not url.startswith(("http://", "https://")):
        raise gqueue.Reject(f"{url!r} is no web address")  # trying again cannot help
    began = time.monotonic()
    try:
        with urllib.request.urlopen(url) as reply:
            status, size = reply.status, len(reply.read())
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise
        status, size = error.code, 0
    return {"status": status, "bytes": size, "ms": round((time.monotonic() - began) * 1000)}


class TestPages(BaseHTTPRequestHandler):
    """Pages to be looked at: /page/N after 200 ms, /missing, /flaky (fails every other time), /hangs."""

    visits = 0

    def do_GET(self) -> None:
        """Answer one request."""
        time.sleep(10 if self.path == "/hangs" else DELAY_S)
        if self.path == "/flaky":
            TestPages.visits += 1
        status = {"/missing": 404, "/flaky": 503 if TestPages.visits % 2 else 200}.get(self.path, 200)
        body = f"This is {self.path}.\n".encode() * 100
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            pass  # the time limit ended the job that asked

    def log_message(self, format: str, *args: Any) -> None:
        """Keep still."""


class TestServer(ThreadingHTTPServer):
    """A server of test pages on a free port of this machine."""

    daemon_threads = True
    request_queue_size = 200  # 50 connections at once are the point

    def start(self) -> str:
        """Serve from a thread; return the address."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server_port}"


def test_urls(address: str) -> list[str]:
    """Return the addresses of the test pages: good ones for the most part."""
    good = [f"{address}/page/{number}" for number in range(PAGES - 3)]
    return [*good, f"{address}/missing", f"{address}/flaky", f"{address}/hangs"]


def main() -> None:
    """Enqueue a check for each page, wait for the results, print what is out of the ordinary and how long it took."""
    parser = argparse.ArgumentParser(description="Check web pages, those of a test server unless URLs are given.")
    parser.add_argument("urls", metavar="URL", nargs="*")
    urls = parser.parse_args().urls or test_urls(TestServer(("127.0.0.1", 0), TestPages).start())

    began = time.monotonic()
    jobs = queue.enqueue_many(check.job(url) for url in urls)
    print(f"{len(jobs)} pages enqueued; start a worker: python -m gqueue --app examples.webcheck:queue --workers 50")
    good, page_ms, took = 0, 0, 0.0
    for url, job in zip(urls, jobs, strict=True):
        try:
            seen = job.result(timeout=120)
        except gqueue.JobFailed as error:
            print(f"{url}: {error.reason}: {error.error}")
            continue
        page_ms += seen["ms"]
        if seen["status"] == 200:
            good, took = good + 1, time.monotonic() - began
        else:
            print(f"{url}: status {seen['status']}")
    print(
        f"{good} of {len(urls)} pages are good; the waiting for them, {page_ms / 1000:.1f} s in all, took {took:.1f} s"
    )


if __name__ == "__main__":
    main()
