"""Fixtures of the end-to-end tests: models, prompts, clusters."""
import json
import os
import pathlib

import pytest

from cluster import BIN, FAST_BIN, ROOT, Cluster

DATA = ROOT / "tests/data"
TINY = DATA / "tiny-llama/model.gguf"


class Model:
    """A model file with the sizes that decide how many bytes its KV has."""

    def __init__(self, path, context, programs, layers, kv_heads, head_dim, hidden):
        self.path, self.context = path, context
        self.programs = programs  # what answers many long prompts with it in a reasonable time
        self.block_bytes = 16 * layers * kv_heads * head_dim * 2 * 2  # 16 tokens, K and V, f16
        self.hidden_bytes = hidden * 4  # the last token's hidden state, f32


def demo_model_path():
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(os.environ.get("TANDEM_DEMO_MODEL") or
                        pathlib.Path(cache) / "tandem/models/SmolLM2-135M-Instruct.Q4_1.gguf")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the tests that take minutes")


def pytest_configure(config):
    if not (BIN / "tandem").is_file():
        pytest.exit(f"no programs in {BIN}: scripts/build makes them; TANDEM_BIN may name another folder", 2)
    config.addinivalue_line("markers", "long: takes minutes; runs with --long")


@pytest.fixture(scope="session", autouse=True)
def weights_cache(tmp_path_factory):
    """Packed weights of the tests go away with them, and the user's cache stays as it is."""
    os.environ["TANDEM_WEIGHTS_CACHE"] = str(tmp_path_factory.mktemp("weights"))


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long: scripts/test --all runs it"))


@pytest.fixture(scope="session")
def tiny():
    return Model(TINY, context=1024, programs=BIN, layers=2, kv_heads=2, head_dim=32, hidden=128)


@pytest.fixture(scope="session")
def demo():
    path = demo_model_path()
    if not path.is_file():
        pytest.skip(f"no model: {path} is not there; scripts/setup --model fetches it")
    return Model(path, context=8192, programs=FAST_BIN, layers=30, kv_heads=3, head_dim=64, hidden=576)


@pytest.fixture(scope="session")
def prompts():
    lines = (DATA / "e2e/prompts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def story():
    """Numbered prompts of some length, all different from the first token on."""
    text = next(json.loads(line)["text"] for line in (DATA / "e2e/prompts.jsonl").read_text().splitlines()
                if '"raw-long"' in line)

    def make(number, words=120):
        return {"kind": "raw", "text": " ".join((f"{number}. " + text).split(" ")[:words])}

    return make


# Every prompt is prefilled elsewhere, however long the queue there is.
REMOTE = {"TANDEM_REMOTE_TOKENS_MIN": "1", "TANDEM_PREFILL_WAIT_MAX": "1h"}
# The same in small steps, so that what happens can be looked at.
SMALL_STEPS = {**REMOTE, "TANDEM_STEP_TOKENS": "32", "TANDEM_SEQUENCES_MAX": "32"}
# The same on a machine so busy that everything takes long: nobody is given up.
PATIENT = {**REMOTE, "TANDEM_ASK_TIME": "60s", "TANDEM_STALL_TIME": "60s", "TANDEM_RESERVE_TIME": "60s",
           "TANDEM_PAIR_TIME": "60s", "TANDEM_LEASE_TIME": "60s", "TANDEM_STALE_AFTER": "60s",
           "TANDEM_FROZEN_AFTER": "60s"}


@pytest.fixture(scope="session")
def reference(demo):
    """One process that reads and writes: what every other way must answer."""
    with Cluster(demo.path, "--prefill", 0) as cluster:
        known = {}

        def ask(prompt, **options):
            key = json.dumps([prompt, options], sort_keys=True)
            if key not in known:
                known[key] = cluster.ask(prompt, **options)
            return known[key]

        yield ask


@pytest.fixture(scope="module")
def pair(demo):
    """One prefill and one decode worker; tests leave it whole and at rest."""
    with Cluster(demo.path, "--kv-transport", "ucx", environment=SMALL_STEPS) as cluster:
        yield cluster
