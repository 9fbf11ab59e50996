"""Processes are killed and frozen at every stage; answers stay the same, or end with an error that says so."""
import itertools
import signal

import openai
import pytest

from cluster import Asking, Cluster, wait_until
from conftest import SMALL_STEPS

LONG = {"temperature": 0, "max_tokens": 24}


def wait_whole(cluster, story):
    """All workers are known, nothing runs, and KV crosses: a peer that failed is left alone for a while."""
    cluster.wait_fleet(2)
    probes = itertools.count(1000)
    wait_until("KV crosses again", lambda: cluster.ask(
        story(next(probes), words=20), temperature=0, max_tokens=1).trace["kv"]["bytes"])
    cluster.wait_at_rest()


@pytest.fixture(autouse=True)
def whole_before_and_after(request, story):
    if "pair" not in request.fixturenames:
        yield
        return
    pair = request.getfixturevalue("pair")
    wait_whole(pair, story)
    yield
    wait_whole(pair, story)


def fallbacks(cluster):
    return cluster.metric("decode", "tandem_worker_imports_fallback_total")


def test_prefill_is_killed_before_anything_crossed(pair, story, reference):
    """It is frozen first, so that decode has asked and waits when it dies."""
    prompt = story(1)
    before = fallbacks(pair)
    pair.signal("prefill", signal.SIGSTOP)
    asking = Asking(pair.ask, prompt, **LONG)
    pair.wait_metric("decode", "tandem_worker_imports", lambda value: value == 1)
    pair.wait_restarted("prefill", pair.kill("prefill"))
    answer = asking.result()
    assert answer == reference(prompt, **LONG)
    assert fallbacks(pair) == before + 1
    assert answer.trace["kv"]["fallback"]


def test_prefill_is_killed_while_kv_crosses(pair, story, reference):
    prompt = story(2)
    before = fallbacks(pair)
    received = pair.metric("decode", "tandem_kvtransfer_chunks_received_total")
    asking = Asking(pair.ask, prompt, **LONG)
    pair.wait_metric("decode", "tandem_kvtransfer_chunks_received_total", lambda value: value > received)
    pair.signal("prefill", signal.SIGSTOP)
    assert pair.metric("decode", "tandem_worker_imports") == 1, "it was over too soon: the prompt is too short"
    pair.wait_restarted("prefill", pair.kill("prefill"))
    answer = asking.result()
    assert answer == reference(prompt, **LONG)
    assert fallbacks(pair) == before + 1


def test_prefill_is_killed_after_the_kv_has_landed(pair, story, reference):
    prompt = story(3)
    before = fallbacks(pair)
    stream = pair.stream(prompt, **LONG).until_text()
    old = pair.kill("prefill")
    answer = stream.rest()
    assert answer == reference(prompt, **LONG)
    assert answer.trace["kv"]["bytes"] > 0 and fallbacks(pair) == before
    pair.wait_restarted("prefill", old)


def test_a_frozen_prefill_is_given_up(pair, story, reference):
    prompt = story(4)
    before = fallbacks(pair)
    pair.signal("prefill", signal.SIGSTOP)
    try:
        answer = pair.ask(prompt, **LONG)
    finally:
        pair.signal("prefill", signal.SIGCONT)
    assert answer == reference(prompt, **LONG)
    assert fallbacks(pair) == before + 1


def test_a_prefill_that_freezes_while_kv_crosses_is_given_up(pair, story, reference):
    prompt = story(5)
    received = pair.metric("decode", "tandem_kvtransfer_chunks_received_total")
    asking = Asking(pair.ask, prompt, **LONG)
    pair.wait_metric("decode", "tandem_kvtransfer_chunks_received_total", lambda value: value > received)
    pair.signal("prefill", signal.SIGSTOP)
    try:
        answer = asking.result()
    finally:
        pair.signal("prefill", signal.SIGCONT)
    assert answer == reference(prompt, **LONG)


def test_the_scheduler_is_killed_and_nobody_notices(pair, story, reference):
    prompt = story(6)
    stream = pair.stream(prompt, **LONG).until_text()
    old = pair.kill("scheduler")
    assert stream.rest() == reference(prompt, **LONG)
    pair.wait_restarted("scheduler", old)
    pair.wait_fleet(2)
    again = pair.ask(prompt, **LONG)
    assert again == reference(prompt, **LONG)
    assert again.trace["kv"]["cached_blocks"] > 0


def test_requests_are_answered_without_a_scheduler(pair, story, reference):
    """Frozen instead of killed: the supervisor would start another one."""
    pair.signal("scheduler", signal.SIGSTOP)
    try:
        prompt = story(7, words=40)
        assert pair.ask(prompt, **LONG) == reference(prompt, **LONG)
    finally:
        pair.signal("scheduler", signal.SIGCONT)


def test_a_killed_decode_ends_the_stream_with_an_error(pair, story):
    stream = pair.stream(story(8), temperature=0, max_tokens=400).until_text()
    old = pair.kill("decode")
    with pytest.raises(openai.APIError) as caught:
        stream.rest()
    assert stream.finish is None, "the client takes a broken answer for a whole one"
    assert "worker" in str(caught.value).lower() or "lost" in str(caught.value).lower(), caught.value
    pair.wait_restarted("decode", old)
    pair.wait_fleet(2)
    assert pair.ask(story(8, words=30), **LONG).completion_tokens > 0


def test_descriptors_do_not_leak(tiny, story):
    """What one kill and recovery leaves open, ten would leave ten times."""
    with Cluster(tiny.path, environment=SMALL_STEPS) as cluster:
        def one_round():
            cluster.wait_restarted("prefill", cluster.kill("prefill"))
            wait_whole(cluster, story)

        one_round()
        before = {name: cluster.descriptors(name) for name in ("router", "decode", "scheduler")}
        for _ in range(3):
            one_round()
        for name, count in before.items():
            wait_until(lambda: f"{name} has closed what it opened: {cluster.descriptors(name)}, before {count}",
                       lambda: cluster.descriptors(name) <= count + 1)


def test_sigterm_lets_running_answers_end(demo, story, reference):
    prompt = story(9)
    with Cluster(demo.path, environment=SMALL_STEPS) as cluster:
        stream = cluster.stream(prompt, **LONG).until_text()
        cluster.process.send_signal(signal.SIGTERM)
        cluster.wait_line("finishing what runs")
        assert stream.rest() == reference(prompt, **LONG)


def test_a_second_signal_does_not_wait(demo, story):
    with Cluster(demo.path) as cluster:
        stream = cluster.stream(story(10), temperature=0, max_tokens=4000).until_text()
        cluster.process.send_signal(signal.SIGINT)
        cluster.wait_line("finishing what runs")
        cluster.process.send_signal(signal.SIGINT)
        with pytest.raises((openai.APIError, AssertionError)):
            stream.rest()
        cluster.process.wait(60)
        cluster.process.returncode = 0  # it had to kill, and says so with its status
