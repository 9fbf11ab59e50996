"""Many rounds of faults drawn from a seed, under load: every answer that comes is the right one."""
import random
import signal

import openai
import pytest

from cluster import Asking, Cluster
from conftest import SMALL_STEPS

ROUNDS = 24
OPTIONS = {"temperature": 0, "max_tokens": 300}


def strike(cluster, rng):
    """One fault, over when this returns; says which."""
    name = rng.choice(["prefill-1", "prefill-2", "decode-1", "decode-2", "scheduler"])
    kind = rng.choice(["kill", "freeze", "none"])
    if kind == "kill":
        cluster.wait_restarted(name, cluster.kill(name))
    elif kind == "freeze":
        cluster.signal(name, signal.SIGSTOP)
        with cluster.client() as client:
            client.models.list()  # the router answers meanwhile
        cluster.signal(name, signal.SIGCONT)
    return f"{kind} {name}"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1] + [pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 7)])
def test_answers_are_right_or_say_that_they_are_not(tiny, story, seed):
    rng = random.Random(seed)
    prompts = [story(i, words=20 + 10 * (i % 8)) for i in range(16)]
    with Cluster(tiny.path, "--prefill", 0) as alone:
        right = [alone.ask(prompt, **OPTIONS) for prompt in prompts]
    with Cluster(tiny.path, "--prefill", 2, "--decode", 2, "--drain-timeout", "10s", environment=SMALL_STEPS) as cluster:
        answered = 0
        for number in range(ROUNDS):
            chosen = rng.sample(range(len(prompts)), 6)
            askings = [(i, Asking(cluster.ask, prompts[i], **OPTIONS)) for i in chosen]
            fault = strike(cluster, rng)
            for i, asking in askings:
                try:
                    answer = asking.result()
                except openai.APIError:
                    continue  # a lost decode worker, said so
                assert answer == right[i], f"round {number}: {fault}"
                answered += 1
        assert answered > ROUNDS * 3
        cluster.wait_fleet(4)
        cluster.wait_at_rest()
