"""Workers of one name that handle text differently, as while a model is being replaced by its next edition."""
import concurrent.futures
import contextlib
import json
import re
import subprocess

import models
from cluster import BIN, Cluster, DEADLINE_S
from conftest import PATIENT

PENALTIES = (1.0, 1000.0)
REQUESTS = 24


def edition(folder, penalty):
    """The same weights with other defaults; the name comes from the last part of the path."""
    folder.mkdir()
    path = models.make(folder, "llama", "F32", "folder")
    (path / "generation_config.json").write_text(json.dumps({"do_sample": False, "repetition_penalty": penalty}))
    return path


@contextlib.contextmanager
def another_worker(cluster, model):
    """A decode worker beside those of the cluster, under the same name."""
    cluster.wait_line(r"scheduler.* listening rpc ")
    scheduler = next(match[1] for match in (re.search(r"scheduler.* listening rpc (\S+)", line) for line in cluster.lines)
                     if match)
    with cluster.client() as client:
        name = client.models.list().data[0].id
    process = subprocess.Popen(
        [str(BIN / "tandem-decode"), "--model", str(model), "--scheduler", scheduler, "--served-model-name", name,
         "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(DEADLINE_S) == 0


def test_a_request_is_served_by_those_who_read_it_as_it_was_made(tmp_path):
    """Many at once, so that the scheduler names both workers: no request may fail, or be drawn by half of each."""
    editions = [edition(tmp_path / "one", PENALTIES[0]), edition(tmp_path / "two", PENALTIES[1])]
    prompts = [{"kind": "raw", "text": f"{number}, 2, 3, 4,"} for number in range(REQUESTS)]
    with Cluster(editions[0], "--prefill", 0, environment=PATIENT) as cluster:
        expected = [[cluster.ask(prompt, max_tokens=12, extra_body={"repetition_penalty": penalty})
                     for penalty in PENALTIES] for prompt in prompts]
        assert any(one != two for one, two in expected)
        with another_worker(cluster, editions[1]), concurrent.futures.ThreadPoolExecutor(8) as pool:
            cluster.wait_fleet(2)
            answers = list(pool.map(lambda prompt: cluster.ask(prompt, max_tokens=12), prompts))
        assert all(answer in either for answer, either in zip(answers, expected))
