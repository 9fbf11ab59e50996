"""Two processes answer as one does, byte for byte, whatever carries the KV."""
import concurrent.futures

import pytest

import models
from cluster import BIN, Cluster
from conftest import PATIENT, Model

MODES = {
    "ucx-shm": (["--kv-transport", "ucx"], {"TANDEM_UCX_TCP": "false"}, "ucx"),
    "ucx-tcp": (["--kv-transport", "ucx"], {"TANDEM_UCX_SHM": "false"}, "ucx (tcp"),
    "map": (["--kv-transport", "map"], {}, "map"),
}
GREEDY = {"temperature": 0, "max_tokens": 12}
SEEDED = {"temperature": 0.9, "top_p": 0.95, "max_tokens": 12}


def ask_all(cluster, prompts, options):
    """All prompts at once; request i has seed i if it samples."""
    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        seeds = [{"seed": i} if options["temperature"] else {} for i in range(len(prompts))]
        return list(pool.map(lambda pair: cluster.ask(pair[0], **options, **pair[1]), zip(prompts, seeds)))


def answers_of(model, prompts, flags, environment):
    environment = {**PATIENT, **environment}
    with Cluster(model.path, *flags, environment=environment, programs=model.programs) as cluster:
        answers = [ask_all(cluster, prompts, options) for options in (GREEDY, SEEDED)]
        cluster.wait_at_rest()
        return answers, {name: cluster.metrics(name) for name in cluster.workers()}


def check_kv(model, answers, metrics, transport):
    """What crosses can be computed: every block that decode does not have, and a hidden state."""
    for answer in answers:
        kv = answer.trace["kv"]
        assert kv["fallback"] is None
        assert kv["transport"].startswith(transport), kv
        assert kv["remote_blocks"] > 0 and kv["bytes"] == kv["remote_blocks"] * model.block_bytes + model.hidden_bytes
        assert kv["remote_blocks"] + kv["cached_blocks"] == -(-answer.prompt_tokens // 16), answer.prompt_tokens
    decode = metrics["decode"]
    assert decode["tandem_worker_imports_fallback_total"] == 0
    assert decode["tandem_kvtransfer_corrupt_total"] == 0
    assert decode["tandem_worker_kv_bytes_received_total"] == sum(a.trace["kv"]["bytes"] for a in answers)


@pytest.fixture(scope="module", params=["tiny", "demo"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def fitting(model, prompts):
    """The prompts that fit the model's context."""
    return [prompt for prompt in prompts if model.context > 1024 or not prompt["id"].endswith("-long")]


@pytest.fixture(scope="module")
def one_process(model, fitting):
    answers, metrics = answers_of(model, fitting, ["--prefill", 0], {})
    assert metrics["decode"]["tandem_worker_imports_started_total"] == 0
    return answers


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_answer_as_one(model, fitting, one_process, mode):
    flags, environment, transport = MODES[mode]
    (greedy, seeded), metrics = answers_of(model, fitting, flags, environment)
    for prompt, alone, apart in zip(fitting, one_process[0], greedy):
        assert apart == alone, prompt["id"]
    for prompt, alone, apart in zip(fitting, one_process[1], seeded):
        assert apart == alone, prompt["id"]
    check_kv(model, greedy + seeded, metrics, transport)


def test_two_of_each_answer_as_one(tiny, prompts):
    prompts = [prompt for prompt in prompts if not prompt["id"].endswith("-long")]
    alone, _ = answers_of(tiny, prompts, ["--prefill", 0], {})
    apart, metrics = answers_of(tiny, prompts, ["--prefill", 2, "--decode", 2], {})
    assert apart == alone
    received = sum(metrics[name]["tandem_worker_kv_bytes_received_total"] for name in metrics)
    assert received == sum(answer.trace["kv"]["bytes"] for answers in apart for answer in answers) > 0


# ---- every architecture, element type and form of file ----

# One of each architecture, and between them a K type, a plain quantised one, a float, and three forms.
SOME = [("llama", "Q4_K", "split"), ("qwen2", "Q5_0", "gguf"), ("qwen3", "BF16", "shards")]
SHORT = ("chat-hello", "chat-multi", "raw-once", "raw-digits", "raw-repeat", "raw-list")


@pytest.fixture(scope="module")
def said():
    """What the model of an architecture and type said, in whatever form it was read first."""
    return {}


@pytest.mark.parametrize("architecture, kind, form", [
    pytest.param(*each, marks=[] if each in SOME else pytest.mark.long, id="-".join(each))
    for each in models.combinations()])
def test_every_kind_of_file_answers_alike(architecture, kind, form, tmp_path, prompts, said):
    """Two processes as one, and each form of the same weights as every other."""
    made = Model(models.make(tmp_path, architecture, kind, form), models.CONTEXT, BIN, models.LAYERS, models.KV_HEADS,
                 models.HEAD_DIM[architecture], models.HIDDEN)
    some = [prompt for prompt in prompts if prompt["id"] in SHORT]
    alone, _ = answers_of(made, some, ["--prefill", 0], {})
    apart, metrics = answers_of(made, some, ["--kv-transport", "map"], {})
    assert apart == alone
    check_kv(made, apart[0] + apart[1], metrics, "map")
    assert any(answer.text for answer in alone[0])
    assert said.setdefault((architecture, kind), alone) == alone
