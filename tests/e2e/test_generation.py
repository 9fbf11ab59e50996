"""Defaults that come with a model, penalties, biases, and the ends of answers, by the official client."""
import json
import struct

import pytest

import models
from cluster import Cluster
from conftest import PATIENT

PROMPT = {"kind": "raw", "text": "1, 2, 3, 4,"}
VOCABULARY = json.loads((models.DATA / "tiny-llama/tokenizer.json").read_text())["model"]["vocab"]
X, Y, Z = (VOCABULARY[letter] for letter in "xyz")
ALWAYS_X = {"logit_bias": {str(X): 100}}
DEFAULTS = {"do_sample": False, "repetition_penalty": 1000, "max_new_tokens": 7, "eos_token_id": [Z, Y]}
PENALTIES = {"temperature": 0.9, "min_p": 0.02, "repetition_penalty": 1.2, "presence_penalty": 0.5,
             "frequency_penalty": 0.25, "logit_bias": {str(X): 3, str(Y): -100}, "max_tokens": 24}


def extended(options):
    """Fields of vLLM's beside those that the official client knows."""
    known = {key: value for key, value in options.items() if key not in ("min_p", "repetition_penalty", "top_k")}
    rest = {key: options[key] for key in options if key not in known}
    return {**known, "extra_body": rest} if rest else known


def ask(cluster, **options):
    return cluster.ask(PROMPT, **extended(options))


def from_folder(folder):
    path = models.make(folder, "llama", "F32", "folder")
    (path / "generation_config.json").write_text(json.dumps(DEFAULTS))
    return path


def from_gguf(folder):
    """The same, but that GGUF files have no default for the number of tokens."""
    path = folder / "defaults.gguf"
    ends = struct.pack("<IQ2I", models.U32, 2, Z, Y)
    keys = [models.key("general.sampling.temp", models.F32, struct.pack("<f", 0)),
            models.key("general.sampling.penalty_repeat", models.F32, struct.pack("<f", 1000)),
            models.key("tokenizer.ggml.eos_token_ids", models.ARRAY, ends)]
    models.write_gguf(path, models.number_keys("llama") + models.tokenizer_keys("llama") + keys,
                      list(models.gguf_tensors("llama", "F32")))
    return path


@pytest.fixture(scope="module", params=[from_folder, from_gguf])
def model(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def cluster(model):
    with Cluster(model, environment=PATIENT) as cluster:
        yield cluster
        cluster.wait_at_rest()


def test_what_a_request_does_not_say_is_the_models_default(cluster):
    """Greedy and penalised, as if the request had said so."""
    silent = ask(cluster, max_tokens=12)
    assert silent.text and silent == ask(cluster, max_tokens=12, temperature=0, repetition_penalty=1000)
    assert silent != ask(cluster, max_tokens=12, repetition_penalty=1)


def test_a_repetition_penalty_shows(cluster):
    free = ask(cluster, max_tokens=12, repetition_penalty=1, **ALWAYS_X)
    assert free.text == "x" * 12 and free.finish == "length"
    penalised = ask(cluster, max_tokens=12, **ALWAYS_X)
    assert penalised.text.startswith("x") and "xx" not in penalised.text


def test_penalties_of_the_output_show(cluster):
    """A hundred less 2 for each time is soon too little; less 2 once is not."""
    options = {"max_tokens": 80, "repetition_penalty": 1, **ALWAYS_X}
    assert ask(cluster, **options).text == "x" * 80
    counted = ask(cluster, frequency_penalty=2, **options).text
    assert counted.startswith("x" * 30) and counted != "x" * 80
    assert ask(cluster, presence_penalty=2, **options).text == "x" * 80


@pytest.mark.parametrize("end", [Z, Y])
def test_each_end_that_the_model_names_ends_the_answer(cluster, end):
    answer = ask(cluster, max_tokens=12, logit_bias={str(end): 100})
    assert answer.finish == "stop" and answer.completion_tokens == 1


def test_the_length_of_chats_has_a_default_in_a_folder(model, cluster):
    """Completions without a length have 16 tokens, as OpenAI says."""
    free = extended({"repetition_penalty": 1, **ALWAYS_X})
    chat = {"kind": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    if model.is_dir():
        assert cluster.ask(chat, **free).text == "x" * 7
    assert cluster.ask(chat, max_tokens=9, **free).text == "x" * 9
    assert cluster.ask(PROMPT, **free).text == "x" * 16


def test_a_token_that_the_model_does_not_have_is_refused(cluster):
    with pytest.raises(Exception) as caught:
        ask(cluster, logit_bias={"1000000": 1})
    assert caught.value.status_code == 400 and caught.value.param == "logit_bias"


def test_workers_ports_have_the_same_defaults(cluster):
    silent = ask(cluster, max_tokens=12)
    for name in cluster.workers():
        with cluster.client(cluster.address(name)) as client:
            reply = client.completions.create(model="", prompt=PROMPT["text"], max_tokens=12)
            assert reply.choices[0].text == silent.text


def test_an_operator_can_have_the_neutral_values(model, cluster):
    with Cluster(model, environment={**PATIENT, "TANDEM_GENERATION_CONFIG": "openai"}) as neutral:
        for seed in range(3):
            assert ask(neutral, max_tokens=12, seed=seed) == ask(
                cluster, max_tokens=12, seed=seed, temperature=1, top_p=1, top_k=0, repetition_penalty=1)


def test_two_processes_penalise_as_one(model, cluster):
    with Cluster(model, "--prefill", 0, environment=PATIENT) as alone:
        for seed in range(6):
            assert ask(alone, seed=seed, **PENALTIES) == ask(cluster, seed=seed, **PENALTIES)
