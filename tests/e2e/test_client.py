"""The official client against the router and against each worker's own port."""
import openai
import pytest

CHAT = {"kind": "chat", "messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture(params=["router", "prefill", "decode"])
def client(request, pair):
    return pair.client(None if request.param == "router" else pair.address(request.param))


def test_models_are_listed(client):
    models = client.models.list().data
    assert [model.object for model in models] == ["model"]


def test_a_chat_streams_what_a_whole_answer_says(client):
    options = {"model": client.models.list().data[0].id, "messages": CHAT["messages"], "temperature": 0,
               "max_tokens": 10}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert whole.system_fingerprint and {c.system_fingerprint for c in chunks} == {whole.system_fingerprint}


def test_a_stop_string_ends_the_answer(client):
    options = {"model": "", "prompt": "1, 2, 3, 4,", "temperature": 0, "max_tokens": 20}
    free = client.completions.create(**options).choices[0].text
    stop = free[4:7]
    answer = client.completions.create(stop=stop, **options).choices[0]
    assert answer.text == free[:free.index(stop)] and answer.finish_reason == "stop"


def test_a_repeated_prompt_is_cached(pair):
    prompt = {"kind": "raw", "text": "A prompt that nobody else uses, long enough for a block: " + "x y " * 40}
    pair.ask(prompt, temperature=0, max_tokens=2)
    again = pair.client().completions.create(model="", prompt=prompt["text"], temperature=0, max_tokens=2)
    assert again.usage.prompt_tokens_details.cached_tokens >= 16


def test_errors_are_those_of_openai(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=CHAT["messages"])
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="", messages=CHAT["messages"], temperature=-1)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="", prompt="x " * 20000)
