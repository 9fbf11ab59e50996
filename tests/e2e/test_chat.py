"""`tandem chat` in a terminal and in scripts, with our own cluster and with servers of another kind."""
import http.server
import json
import os
import re
import ssl
import subprocess
import threading

import pytest

from cluster import BIN, Cluster, FAULTS
from terminal import Terminal

PROMPT = r"> $"
CLEAN = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}


def chat(*words, text="", environment=None):
    """A chat without a terminal: one message a line."""
    result = subprocess.run([BIN / "tandem", "chat", *map(str, words)], input=text, capture_output=True, text=True,
                            timeout=120, env={**os.environ, **CLEAN, **(environment or {})})
    assert not FAULTS.search(result.stderr), result.stderr
    return result


def terminal(*words, environment=None):
    return Terminal([BIN / "tandem", "chat", *words], environment)


# ---- a server of another kind ----

def event(**delta):
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}) + "\n\n"


class Foreign:
    """An OpenAI API written from its documentation. `answer` writes what follows the head of a stream."""

    def __init__(self, answer=None, models=("foreign-small", "foreign-large"), key=None, certificate=None):
        self.requests, self.left = [], threading.Event()
        foreign = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def refuse(self, status, body):
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def is_allowed(self):
                if key is None or self.headers["Authorization"] == f"Bearer {key}":
                    return True
                self.refuse(401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})
                return False

            def do_GET(self):
                if not self.is_allowed():
                    return
                if models is None or self.path != "/v1/models":
                    self.refuse(404, {"detail": "Not Found"})
                else:
                    self.refuse(200, {"object": "list", "data": [{"id": name} for name in models]})

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                foreign.requests.append(request)
                if self.path != "/v1/chat/completions" or not self.is_allowed():
                    return
                self.close_connection = True
                answer(self, request)

            def begin(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()

            def put(self, text):
                self.wfile.write(text.encode())
                self.wfile.flush()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def says(*pieces, finish="stop"):
    """Answers with these pieces, and no usage and no [DONE]."""

    def answer(handler, _):
        handler.begin()
        for piece in pieces:
            handler.put(event(content=piece))
        handler.put("data: " + json.dumps({"choices": [{"delta": {}, "finish_reason": finish}]}) + "\n\n")

    return answer


def odd_but_legal(handler, request):
    """Comments, CR LF, other fields, data of several lines, reasoning; no usage, no [DONE]."""
    handler.begin()
    handler.put(": welcome\r\n\r\n")
    handler.put('event: message\r\nid: 7\r\ndata: {"choices":\r\ndata: [{"delta":{"role":"assistant"}}]}\r\n\r\n')
    handler.put(event(reasoning_content="I think").replace("\n", "\r\n"))
    handler.put("data:" + json.dumps({"choices": [{"delta": {"content": "You said "}}], "usage": None}) + "\r\n\r\n")
    handler.put(event(content=request["messages"][-1]["content"]))
    handler.put('data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\r\n\r\n')


def test_a_script_gets_answers_and_nothing_else():
    with Foreign(odd_but_legal) as server:
        result = chat(server.url, text="one\n\ntwo\n\"\"\"\nthree\nfour\n\"\"\"\n")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == "You said one\nYou said two\nYou said three\nfour\n"
        last = server.requests[-1]
    assert last["model"] == "foreign-small" and last["stream"] is True
    assert [(message["role"], message["content"]) for message in last["messages"]] == [
        ("user", "one"), ("assistant", "You said one"), ("user", "two"), ("assistant", "You said two"),
        ("user", "three\nfour\n")]
    assert set(last) == {"model", "messages", "stream", "stream_options"}


def test_settings_system_prompt_and_model_are_sent():
    with Foreign(says("ok")) as server:
        result = chat(server.url, "--set", "temperature=0.5", "--set", "seed=3", "--system", "Be brief.", "--model-name",
                      "foreign-large", text="hello\n/set seed default\n/system \"\"\n/model 1\nagain\n//slash\n")
        assert (result.returncode, result.stderr) == (0, "")
        first, second, third = server.requests
    assert (first["temperature"], first["seed"], first["model"]) == (0.5, 3, "foreign-large")
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "seed" not in second and second["model"] == "foreign-small"
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert third["messages"][-1]["content"] == "/slash"


def test_a_server_that_does_not_stream_is_understood():
    def answer(handler, request):
        handler.refuse(200, {"model": "m", "choices": [{"message": {"role": "assistant", "content": "whole"},
                                                        "finish_reason": "length"}]})

    with Foreign(answer) as server:
        assert chat(server.url, text="x\n").stdout == "whole\n"
        with terminal(server.url) as screen:
            screen.wait_for(PROMPT)
            screen.type("x\r")
            screen.wait_for(r"whole\r\n.*cut off.*/set max_tokens")


def test_the_url_may_come_from_the_environment():
    with Foreign(says("hi")) as server:
        result = chat(text="x\n", environment={"OPENAI_BASE_URL": server.url + "/v1/"})
    assert (result.returncode, result.stdout) == (0, "hi\n")


def test_a_key_is_sent_and_its_lack_explained(tmp_path):
    key = tmp_path / "key"
    key.write_text("sk-secret\n")
    with Foreign(says("in"), key="sk-secret") as server:
        assert chat(server.url, "--api-key-file", key, text="x\n").stdout == "in\n"
        assert chat(server.url, text="x\n", environment={"OPENAI_API_KEY": "sk-secret"}).stdout == "in\n"
        without = chat(server.url, text="x\n")
        wrong = chat(server.url, text="x\n", environment={"OPENAI_API_KEY": "sk-other"})
    assert without.returncode == 1 and "--api-key-file" in without.stderr
    assert wrong.returncode == 1 and "does not take this API key" in wrong.stderr and "sk-other" not in wrong.stderr


def test_a_certificate_that_nobody_vouches_for_gets_no_key(tmp_path):
    made = subprocess.run([BIN / "tandem", "certs", tmp_path / "certs"], capture_output=True, timeout=120)
    assert made.returncode == 0
    with Foreign(says("no"), certificate=tmp_path / "certs/router") as server:
        result = chat(server.url, text="x\n", environment={"OPENAI_API_KEY": "sk-secret"})
        assert server.requests == []
    assert result.returncode == 1 and "update-ca-certificates" in result.stderr, result.stderr


def test_a_server_without_a_list_of_models_wants_a_name():
    with Foreign(says("yes"), models=None) as server:
        without = chat(server.url, text="x\n")
        result = chat(server.url, "--model-name", "mine", text="x\n")
        assert without.returncode == 1 and "--model-name" in without.stderr
        assert (result.returncode, result.stdout) == (0, "yes\n")
        assert server.requests[0]["model"] == "mine"


@pytest.mark.parametrize("words", [["http://127.0.0.1:1"], ["127.0.0.1:1"], ["--api-key-file", "/nowhere/key"],
                                   ["/nowhere/model.gguf"]])
def test_what_is_not_there_is_named_with_the_next_step(words):
    result = chat(*words, text="x\n")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("tandem chat: ") and words[-1].split("//")[-1] in result.stderr
    if "127" in words[0]:
        assert "tandem serve MODEL.gguf" in result.stderr


@pytest.mark.parametrize("words", [["ftp://host"], ["http://"], ["http://a@b"], ["a:1", "b:1"],
                                   ["127.0.0.1:1", "--set", "warmth=1"], ["m.gguf", "--api-key-file", "key"],
                                   ["127.0.0.1:1", "--model-name", "x" * 2000]])
def test_a_wrong_command_line_is_status_2(words):
    result = chat(*words)
    assert result.returncode == 2 and result.stderr.startswith("tandem chat: "), result.stderr


def test_a_script_ends_at_the_first_failure():
    def answer(handler, request):
        if request["messages"][-1]["content"] == "fail":
            handler.refuse(400, {"error": {"message": "no such word", "code": None}})
        else:
            says("ok")(handler, request)

    with Foreign(answer) as server:
        for line in ("fail", "/frobnicate", "/load /nowhere", "/set warmth 1", '"""open'):
            result = chat(server.url, text=f"one\n{line}\nthree\n")
            assert (result.returncode, result.stdout) == (1, "ok\n"), line
            assert result.stderr.startswith("tandem chat: ")
    assert not any(request["messages"][-1]["content"] == "three" for request in server.requests)


def test_answers_in_a_pipe_are_the_very_bytes_and_in_a_terminal_they_are_safe():
    evil = "a\x1b]0;title\x07b\x1b[2J\x9b31mc\u202ed\r\ne"
    with Foreign(says(evil)) as server:
        result = subprocess.run([BIN / "tandem", "chat", server.url], input=b"x\n", capture_output=True, timeout=120)
        assert result.stdout == evil.encode() + b"\n"
        with terminal(server.url) as screen:
            screen.wait_for(PROMPT)
            screen.type("x\r")
            screen.wait_for(r"\ne\r\n")
            shown = screen.text[screen.mark:]
    assert "a\u241b]0;title\u2407b\u241b[2J\ufffd31mc\ufffdd\r\ne" in shown
    for sequence in re.findall(r"\x1b.{0,4}", shown):
        assert re.match(r"\x1b\[[0-9;?]*[A-Za-z]", sequence), sequence
    assert "\x9b" not in shown and "\u202e" not in shown and "\x07" not in shown


def test_a_reader_that_leaves_ends_a_script():
    with Foreign(says("x" * 100)) as server:
        process = subprocess.Popen([BIN / "tandem", "chat", server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        process.stdout.close()
        process.communicate(b"one\ntwo\nthree\n")
        assert process.returncode == 1
        assert len(server.requests) == 1


def test_a_hostile_server_cannot_steer_the_terminal_with_its_names():
    with Foreign(says("x"), models=["evil\x1b[2Jname"]) as server, terminal(server.url) as screen:
        screen.wait_for(PROMPT)
        screen.type("/model\r")
        screen.wait_for("evil\u241b")
        assert "\x1b[2J" not in screen.text


def test_reasoning_is_dimmed_and_not_sent_back():
    with Foreign(odd_but_legal) as server, terminal(server.url) as screen:
        screen.wait_for(PROMPT)
        screen.type("one\r")
        screen.wait_for(r"\x1b\[2mI think[^\x1b]*\x1b\[0m\s*You said one")
        screen.wait_for(r"s to the first token")
        screen.type("two\r")
        screen.wait_for("You said two")
        assert server.requests[-1]["messages"][1] == {"role": "assistant", "content": "You said one"}


def test_a_server_that_dies_in_the_middle_leaves_the_chat_alive():
    deaths = []

    def answer(handler, request):
        handler.begin()
        handler.put(event(content="half an ans"))
        if not deaths:
            deaths.append(True)  # the connection just ends
        else:
            handler.put(event(content="wer, whole") + 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n')

    with Foreign(answer) as server, terminal(server.url) as screen:
        screen.wait_for(PROMPT)
        screen.type("question\r")
        screen.wait_for(r"half an ans\r\n.*ended before the answer was complete.*/retry")
        screen.wait_for(PROMPT)
        screen.type("/retry\r")
        screen.wait_for("answer, whole")
        assert [message["content"] for message in server.requests[-1]["messages"]] == ["question"]
        screen.wait_for(r"answer, whole[^>]*" + PROMPT)
        screen.type("\x04")
        assert screen.wait_end() == 0


@pytest.mark.parametrize("beginning, expected", [
    ('data: {"error":{"message":"the engine is lost"}}\n\n', "the engine is lost"),
    ("data: no json\n\n", "no JSON"),
    ("data: ", "too long"),
])
def test_what_follows_a_failure_is_not_waited_for(beginning, expected):
    gone = threading.Event()

    def answer(handler, request):
        handler.begin()
        handler.put(beginning)
        try:
            while not gone.is_set():
                handler.put("x" * 65536)
        except OSError:
            gone.set()

    with Foreign(answer) as server:
        result = chat(server.url, text="x\n")
        assert gone.wait(60), "the request was not given up"
    assert result.returncode == 1 and expected in result.stderr


def test_ctrl_c_stops_an_answer_and_keeps_the_chat():
    gone = threading.Event()

    def answer(handler, request):
        handler.begin()
        handler.put(event(content="It begins"))
        try:
            while len(request["messages"]) == 1:
                handler.put(": ping\n\n")
                gone.wait(0.01)
        except OSError:
            gone.set()
        says("and goes on")(handler, request) if len(request["messages"]) > 1 else None

    with Foreign(answer) as server, terminal(server.url) as screen:
        screen.wait_for(PROMPT)
        screen.type("one\r")
        screen.wait_for("It begins")
        screen.type("\x03")
        screen.wait_for(r"stopped; what was said is part of the chat")
        screen.wait_for(PROMPT)
        assert gone.wait(60), "the server was not told"
        screen.type("two\r")
        screen.wait_for(r"s to the first token[^>]*" + PROMPT)
        assert server.requests[-1]["messages"][:2] == [{"role": "user", "content": "one"},
                                                       {"role": "assistant", "content": "It begins"}]
        screen.type("abc\x03")  # gives the line up
        screen.wait_for(r"\^C\r\n.*" + PROMPT)
        screen.type("\x03")
        screen.wait_for(r"Ctrl-C once more ends[^>]*" + PROMPT)
        screen.type("\x03")
        assert screen.wait_end() == 0


def test_the_commands_of_a_chat(tmp_path):
    file = tmp_path / "chat.json"
    with Foreign(odd_but_legal) as server, terminal(server.url) as screen:
        def enter(line, expected):
            screen.wait_for(PROMPT)
            screen.type(line + "\r")
            screen.wait_for(expected)

        enter("/hel\t", r"/quit +ends")
        enter("gr\u00fc\u00dfe", "You said gr\u00fc\u00dfe")
        enter("/system Be kind.", "system prompt set")
        enter("/system", "Be kind.")
        enter("/set temperature 0.7", "> $")
        enter("/set", r"temperature +0\.7")
        enter("/set temperature warm", "is not a number")
        enter("/model", r"1 foreign-small +\(in use\)\r\n +2 foreign-large")
        enter("/model foreign-large", "foreign-large answers")
        enter("/model nothing", "no such model")
        enter("/stats", "2 messages; 1 answers")
        enter(f"/save {file}", "2 messages are in")
        enter(f"/save {file}", "2 messages are in")
        enter("/undo", "the chat is empty")
        enter("/undo", "nothing to take back")
        enter("/retry", "Nothing was asked")
        enter(f"/load {file}", "2 messages from")
        enter("/retry", "You said gr\u00fc\u00dfe")
        enter("/multi", r"\.\.\. $")
        screen.type("line one\r")
        screen.wait_for(r"\.\.\. $")
        screen.type("/reset\r")
        screen.wait_for(r"\.\.\. $")
        screen.type('"""\r')
        screen.wait_for("You said line one\r\n/reset")
        enter("/reset", "new chat")
        enter("/sav", r"did you mean /save\?")
        enter("/quit", "")
        assert screen.wait_end() == 0
    saved = json.loads(file.read_text())
    assert saved == {"model": "foreign-large", "temperature": 0.7, "messages": [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "gr\u00fc\u00dfe"},
        {"role": "assistant", "content": "You said gr\u00fc\u00dfe"}]}


def test_a_full_context_is_said_and_nothing_is_dropped():
    def answer(handler, request):
        handler.refuse(400, {"error": {"message": "the prompt has 9 tokens, the context 8",
                                       "code": "context_length_exceeded"}})

    with Foreign(answer) as server, terminal(server.url) as screen:
        screen.wait_for(PROMPT)
        screen.type("long\r")
        screen.wait_for(r"context 8\. .*nothing was dropped.*/undo.*/reset")


# ---- our own cluster ----

def test_a_file_is_served_for_the_time_of_a_chat(tiny):
    result = chat(tiny.path, "--set", "temperature=0", "--set", "max_tokens=8", text="Why?\nAnd then?\n")
    assert result.returncode == 0, result.stderr
    with Cluster(tiny.path) as cluster:
        same = chat(cluster.origin, "--set", "temperature=0", "--set", "max_tokens=8", text="Why?\nAnd then?\n")
        cluster.wait_at_rest()
    assert same.stdout == result.stdout != "\n\n"


def clients_that_left(cluster):
    return sum(value for name, value in cluster.metrics().items()
               if name.startswith("tandem_front_requests_total") and "client_left" in name)


def test_ctrl_c_reaches_the_engine(demo):
    with Cluster(demo.path, programs=demo.programs) as cluster:
        before = clients_that_left(cluster)
        with terminal(cluster.origin, "--set", "max_tokens=4000", "--set", "temperature=0") as screen:
            screen.wait_for(PROMPT)
            screen.type("Write a very long story about the sea.\r")
            screen.wait_for(r"sea\.\r\n.*\S")
            screen.type("\x03")
            screen.wait_for("stopped; what was said is part of the chat")
            cluster.wait_at_rest()
            assert clients_that_left(cluster) == before + 1
            screen.wait_for(PROMPT)
            screen.type("/undo\r")
            screen.wait_for(r"the chat is empty[^>]*" + PROMPT)  # before, Ctrl-D would be the kernel's
            screen.type("\x04")
            assert screen.wait_end() == 0


def test_a_cluster_in_a_chat_ends_with_it(tiny, tmp_path):
    with terminal(tiny.path, "--set", "max_tokens=4", environment={"XDG_RUNTIME_DIR": str(tmp_path)}) as screen:
        screen.wait_for(r"/help lists commands")
        assert len(list(tmp_path.iterdir())) == 1
        screen.wait_for(PROMPT)
        screen.type("Why?\r")
        screen.wait_for("tokens/s; |in all")
        screen.type("/stats\r")
        screen.wait_for("Where the time went")
        screen.type("/quit\r")
        assert screen.wait_end() == 0
    assert list(tmp_path.iterdir()) == []
