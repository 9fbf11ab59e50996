"""A client that leaves takes its work with it, at whatever stage it leaves."""
import json
import socket

import pytest

from cluster import Cluster
from conftest import SMALL_STEPS


class Visitor:
    """A bare connection that asks for a stream and can hang up at any time, also before any answer."""

    def __init__(self, cluster, prompt, **options):
        host, port = cluster.origin.removeprefix("http://").rsplit(":", 1)
        body = json.dumps({"prompt": prompt["text"], "stream": True, "temperature": 0, **options}).encode()
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.socket.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                            b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def read_some(self):
        return self.socket.recv(65536)

    def leave(self):
        self.socket.close()


@pytest.fixture(autouse=True)
def at_rest_before_and_after(pair):
    pair.wait_at_rest()
    yield
    pair.wait_at_rest()


def test_while_prefilling(pair, story):
    computed = pair.metric("prefill", "tandem_engine_prompt_tokens_total")
    visitor = Visitor(pair, story(31, words=800), max_tokens=50)
    pair.wait_metric("prefill", "tandem_engine_running", lambda value: value == 1)
    visitor.leave()
    pair.wait_at_rest()
    read = pair.metric("prefill", "tandem_engine_prompt_tokens_total") - computed
    assert read < 800, "the prompt was read to its end"


def test_while_kv_lands(pair, story):
    received = pair.metric("decode", "tandem_kvtransfer_chunks_received_total")
    canceled = pair.metric("decode", "tandem_worker_imports_canceled_total")
    visitor = Visitor(pair, story(32), max_tokens=50)
    pair.wait_metric("decode", "tandem_kvtransfer_chunks_received_total", lambda value: value > received)
    visitor.leave()
    pair.wait_at_rest()
    assert pair.metric("decode", "tandem_worker_imports_canceled_total") == canceled + 1


def test_while_decoding(pair, story):
    canceled = pair.metric("decode", "tandem_worker_requests_canceled_total")
    visitor = Visitor(pair, story(33, words=30), max_tokens=4000)
    while b"data:" not in visitor.read_some():
        pass
    visitor.leave()
    pair.wait_metric("decode", "tandem_worker_requests_canceled_total", lambda value: value == canceled + 1)


def test_while_queued(demo, story):
    """One place in the batch, one to wait in: the third request stays in the router."""
    few = {**SMALL_STEPS, "TANDEM_SEQUENCES_MAX": "1", "TANDEM_WAITING_MAX": "1"}
    with Cluster(demo.path, "--prefill", 0, environment=few) as cluster:
        taken = [Visitor(cluster, story(40, words=20), max_tokens=4000)]
        # until the first is in the batch, a second one would find the place to wait in taken
        cluster.wait_metric("decode", "tandem_engine_running", lambda value: value == 1)
        taken.append(Visitor(cluster, story(41, words=20), max_tokens=4000))
        cluster.wait_metric("decode", "tandem_worker_requests", lambda value: value == 2)
        queued = Visitor(cluster, story(42, words=20), max_tokens=4000)
        cluster.wait_metric("router", "tandem_router_queued", lambda value: value == 1)
        queued.leave()
        cluster.wait_metric("router", "tandem_router_queued", lambda value: value == 0)
        cluster.wait_metric("decode", "tandem_worker_requests", lambda value: value == 2)  # the others go on
        assert cluster.metric("decode", "tandem_worker_requests_canceled_total") == 0
        for visitor in taken:
            visitor.leave()
        cluster.wait_at_rest()


def test_many_at_once_in_all_stages(pair, story):
    visitors = [Visitor(pair, story(50 + i, words=60 + 40 * (i % 4)), max_tokens=200) for i in range(12)]
    pair.wait_metric("decode", "tandem_worker_requests", lambda value: value >= 6)
    for visitor in visitors:
        visitor.leave()
    pair.wait_at_rest()
