"""`tandem serve` and `tandem demo` as a person meets them: what they print, leave behind and return."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess

import pytest

from cluster import BIN, Cluster, wait_until


def tandem(*words, environment=None, folder=None):
    """Runs a command to its end. folder: what it takes for the place of sockets."""
    runtime = {"XDG_RUNTIME_DIR": str(folder)} if folder else {}
    return subprocess.run([BIN / "tandem", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=120, env={**os.environ, **runtime, **(environment or {})})


@pytest.fixture
def sockets(tmp_path):
    """A folder that must be empty again afterwards. Its name must leave room for sockets in it."""
    folder = pathlib.Path("/tmp") / f"td-{os.getpid()}"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []
    folder.rmdir()


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_file_that_is_no_model_ends_the_whole_with_its_message(sockets, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("This is no model. " * 100)
    result = tandem("serve", file, "--port", 0, folder=sockets)
    assert result.returncode == 1 and result.stdout == ""
    reasons = [line for line in result.stderr.splitlines() if "GGUF magic" in line]
    assert len(reasons) == 1, result.stderr
    assert re.fullmatch(rf"tandem serve: (prefill|decode) cannot start: {re.escape(str(file))}: .*", reasons[0])
    assert f"\ntandem: what is in the file: tandem inspect {file}\n" in result.stderr
    assert "starting it again" not in result.stderr


def test_a_missing_model_is_said_before_anything_starts(sockets):
    result = tandem("serve", "/nowhere/model.gguf", folder=sockets)
    assert result.returncode == 1
    assert result.stderr == ("tandem serve: cannot read the model /nowhere/model.gguf: No such file or directory; "
                             "tandem help start tells where to get one\n")


def test_a_port_that_is_taken_ends_the_whole(sockets, tiny):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = tandem("serve", tiny.path, "--port", taken.getsockname()[1], folder=sockets)
    assert result.returncode == 1
    assert re.search(r"^tandem serve: router cannot start: .*in use", result.stderr, re.M), result.stderr


@pytest.mark.parametrize("words", [["serve"], ["serve", "a", "b"], ["serve", "a", "--decode", "0"], ["serv"],
                                   ["demo", "a", "--kv-transport", "pigeon"], ["bench"], []])
def test_a_wrong_command_line_is_status_2(words):
    result = tandem(*words)
    assert result.returncode == 2 and result.stdout == "" and result.stderr != ""


@pytest.mark.parametrize("words", [["--help"], ["help", "serve"], ["serve", "--help"], ["demo", "--help"],
                                   ["certs", "--help"], ["bench", "--help"], ["bench", "engine", "--help"],
                                   ["sim", "--help"], ["version"], ["--version"]])
def test_help_is_on_stdout(words):
    result = tandem(*words)
    assert result.returncode == 0 and result.stdout != "" and result.stderr == ""


def test_serve_prints_one_line_and_leaves_nothing(sockets, tiny):
    with Cluster(tiny.path, environment={"XDG_RUNTIME_DIR": str(sockets)}) as cluster:
        assert len(list(sockets.iterdir())) == 1
        pids = [pid for _, pid in cluster.places.values()]
        assert len(pids) == 4 and all(map(is_running, pids))
        assert cluster.stop() == 0
        assert cluster.process.stdout.read() == ""  # behind the one line
        assert not any(map(is_running, pids))


def test_children_die_with_a_killed_supervisor(tiny):
    cluster = Cluster(tiny.path)
    pids = [pid for _, pid in cluster.places.values()]
    os.kill(cluster.process.pid, signal.SIGKILL)
    cluster.process.wait()
    wait_until("all children are gone", lambda: not any(map(is_running, pids)))


def test_a_router_that_dies_comes_back_at_its_port(tiny):
    with Cluster(tiny.path) as cluster:
        old = cluster.kill("router")
        cluster.wait_line(r"^tandem: router was ended by signal 9 .*; starting it again in 0.25 s")
        cluster.wait_restarted("router", old)
        assert cluster.address("router") == cluster.origin
        cluster.wait_fleet(2)
        assert cluster.client().models.list().data


@pytest.mark.parametrize("transport", ["ucx", "map"])
def test_demo_once_says_what_crossed(sockets, tiny, transport):
    result = tandem("demo", tiny.path, "--once", "Why is the sky blue?", "--max-tokens", 8, "--kv-transport", transport,
                    "--json", folder=sockets)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    assert set(answer) == {"text", "prompt_tokens", "completion_tokens", "kv_bytes", "transport", "stages_ms"}
    blocks = -(-answer["prompt_tokens"] // 16)
    assert answer["kv_bytes"] == blocks * tiny.block_bytes + tiny.hidden_bytes
    assert answer["transport"].startswith(transport)
    assert {"queue", "tokenize", "place", "ask", "prefill", "wire", "land", "first_token"} <= set(answer["stages_ms"])
    assert "KV that crossed" in result.stderr


def test_demo_answers_the_same_with_one_process(sockets, tiny):
    words = ["demo", tiny.path, "--once", "Why is the sky blue?", "--max-tokens", 8, "--json"]
    one = tandem(*words, "--aggregated", folder=sockets)
    two = tandem(*words, folder=sockets)
    assert one.returncode == two.returncode == 0
    one, two = (json.loads(result.stdout.splitlines()[-1]) for result in (one, two))
    assert one["text"] == two["text"] and one["kv_bytes"] == 0 and one["transport"] is None


def test_demo_fails_if_no_kv_crossed(sockets, tiny):
    result = tandem("demo", tiny.path, "--once", "Why?", "--max-tokens", 2, folder=sockets,
                    environment={"TANDEM_IMPORT_TOKENS_MIN": "100000"})
    assert result.returncode == 1
    assert "no KV crossed: the decode worker computed the prompt itself" in result.stderr


def test_demo_keeps_serving_until_it_is_told_to_end(tiny):
    process = subprocess.Popen([BIN / "tandem", "demo", tiny.path, "--port", "0", "--max-tokens", "4"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("  curl"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(60) == 0, lines
    assert "Serving the OpenAI API at http://127.0.0.1:" in "".join(lines) and "sky blue" in rest
