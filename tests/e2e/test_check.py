"""`tandem check` and `tandem inspect` as a person and as a program meet them."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

import pytest

from cluster import BIN, ROOT, wait_until

DATA = ROOT / "tests/data"


def tandem(*words, environment=None, prefix=()):
    return subprocess.run([*prefix, BIN / "tandem", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=240, env={**os.environ, **(environment or {})})


def check(*words, **options):
    """The JSON of a check: the whole, and its rows by what they looked at."""
    result = tandem("check", *words, "--json", **options)
    report = json.loads(result.stdout)
    assert result.returncode == (0 if report["ok"] else 1), result.stderr
    assert report["problems"] == sum(row["result"] == "problem" for row in report["checks"])
    assert all(row["advice"] for row in report["checks"] if row["result"] != "ok"), "no row without what to do"
    return report, {row["what"]: row for row in report["checks"]}


def left_behind():
    """What a check might leave: processes, folders of sockets, shared memory."""
    commands = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:1] == [str(BIN / "tandem").encode()] and words[1:2] == [b"check"]:
            commands.append(words)
    return commands


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_model_that_works_is_well(tiny, free_port, tmp_path):
    report, rows = check(tiny.path, "--port", free_port, environment={"XDG_RUNTIME_DIR": str(tmp_path)})
    assert report["ok"], report
    assert {"processor", "cores", "memory", "open files", "clock", "API port", "map", "ucx shared memory", "ucx TCP",
            "file", "tokenizer", "chat template", "generation", "same bits"} <= set(rows)
    for lane in ("map", "ucx shared memory", "ucx TCP"):
        assert rows[lane]["values"]["gb_per_s"] > 0 and rows[lane]["values"]["memcpy_ratio"] > 0, rows[lane]
    assert re.match(r"ucx \(.*tcp.*\):", rows["ucx TCP"]["figure"])
    assert rows["generation"]["values"]["decode_tokens_per_s"] > 0
    assert rows["same bits"]["figure"].endswith("equal to the last bit")
    assert list(tmp_path.iterdir()) == []
    wait_until("nothing of it runs", lambda: not left_behind())


def test_text_folds_at_80_columns_and_ends_with_a_verdict(tiny, free_port):
    result = tandem("check", tiny.path, "--port", free_port)
    assert result.returncode == 0, result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stdout.startswith("This machine\n") and "\x1b" not in result.stdout
    assert re.search(r"\n(All is well|0 problems, \d+ notes?)\.\n$", result.stdout)


def test_programs_that_are_not_there_are_a_problem(free_port, tmp_path):
    for name in ("tandem", "tandem-router", "tandem-scheduler", "tandem-decode"):
        shutil.copy(BIN / name, tmp_path)
    result = subprocess.run([tmp_path / "tandem", "check", "--port", str(free_port), "--json"], capture_output=True,
                            text=True, timeout=240)
    rows = {row["what"]: row for row in json.loads(result.stdout)["checks"]}
    assert result.returncode == 1 and rows["programs"]["result"] == "problem"
    assert "tandem-prefill: No such file" in rows["programs"]["figure"]


@pytest.mark.parametrize("command", ["check", "serve"])
def test_flags_that_make_no_cluster_are_refused_before_anything_is_looked_at(command, tmp_path):
    result = tandem(command, tmp_path / "no-model.gguf", "--gpu-weights", "fp8")
    assert result.returncode == 2
    assert "--gpu-weights" in result.stderr and "--gpu" in result.stderr and "no-model" not in result.stderr


def test_a_port_that_is_taken_is_a_problem(free_port):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        report, rows = check("--port", free_port, "--listen", f"127.0.0.1:{port}")
    assert rows["API port"]["result"] == "ok"
    assert rows["address"]["result"] == "problem"
    assert f"process {os.getpid()} (" in rows["address"]["figure"]


@pytest.mark.parametrize("damage", ["text", "cut", "empty", "flipped"])
def test_a_broken_file_is_a_problem_and_can_be_inspected(tiny, free_port, tmp_path, damage):
    whole = tiny.path.read_bytes()
    file = tmp_path / "model.gguf"
    file.write_bytes({"text": b"This is no model. " * 100, "cut": whole[:len(whole) // 2], "empty": b"",
                      "flipped": whole[:4] + b"\xff" * 60 + whole[64:]}[damage])
    report, rows = check(file, "--port", free_port)
    assert not report["ok"] and rows["file"]["result"] == "problem"
    assert f"tandem inspect {file}" in rows["file"]["advice"]
    result = tandem("inspect", file)
    assert result.returncode == 1 and "NOT SERVED" in result.stdout and result.stderr == ""
    known = json.loads(tandem("inspect", file, "--json").stdout)
    assert known["model"]["is_served"] is False and known["model"]["why"]


@pytest.mark.parametrize("content,guess", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    (b"PK\x03\x04" + b"\0" * 60, "ZIP"),
])
def test_what_is_no_model_is_guessed(tmp_path, content, guess):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert guess in json.loads(tandem("inspect", file, "--json").stdout)["bytes"]["looks_like"]


def test_an_unknown_architecture_is_named_and_its_tensors_are_listed(tiny, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(tiny.path.read_bytes().replace(b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
                                                    b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0lamma"))
    known = json.loads(tandem("inspect", file, "--json", "--tensors").stdout)
    assert "lamma" in known["model"]["why"]
    assert known["keys"]["general.architecture"] == "lamma"
    assert known["tensors"]["count"] == len(known["tensors"]["list"]) > 20


def test_a_model_is_described_by_its_numbers(tiny):
    result = tandem("inspect", tiny.path, "--json", "--tensors")
    assert result.returncode == 0, result.stderr
    known = json.loads(result.stdout)
    assert known["shape"]["layers"] == 2 and known["shape"]["hidden"] == 128 and known["shape"]["context"] == tiny.context
    assert known["memory"]["kv_bytes_per_1000_tokens"] == tiny.block_bytes * 1000 // 16
    assert known["model"]["parameters"] == sum(row["rows"] * row["columns"] for row in known["tensors"]["list"])
    assert sum(row["share"] for row in known["tensors"]["types"]) == pytest.approx(1)
    assert known["tokenizer"]["stop_tokens"] and known["here"]["kv_blocks_max"] > 0
    text = tandem("inspect", tiny.path).stdout
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text


@pytest.fixture
def open_folder():
    """One that other users may look into, as pytest's own are not."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder that a test may damage."""
    copy = tmp_path / "tiny-qwen3"
    copy.mkdir()
    for file in (DATA / "tiny-qwen3").iterdir():
        if file.suffix in (".json", ".safetensors", ".jinja"):
            shutil.copy(file, copy)
    return copy


def test_a_folder_is_described_and_tried_as_a_file_is(folder, free_port):
    known = json.loads(tandem("inspect", folder, "--json", "--tensors").stdout)
    assert known["model"]["format"] == "Hugging Face folder" and known["model"]["architecture"] == "qwen3"
    assert "model.layers.0.self_attn.q_norm.weight" in [row["name"] for row in known["tensors"]["list"]]
    assert "temperature" in known["generation"]["defaults"] and known["tokenizer"]["normalizes_nfc"]
    assert [row["from"] for row in known["tokenizer"]["stop_tokens"]]
    report, rows = check(folder, "--port", free_port)
    assert report["ok"], report


@pytest.mark.parametrize("tokenizer", ["tiny_llama2", "tiny_metaspace", "tiny_added"])
def test_text_comes_back_from_every_kind_of_tokenizer(tokenizer, free_port, tmp_path):
    for file in (DATA / "tiny-llama/config.json", DATA / "tiny-llama/model.safetensors",
                 *(DATA / "text" / tokenizer).iterdir()):
        shutil.copy(file, tmp_path)
    report, rows = check(tmp_path, "--port", free_port)
    assert rows["tokenizer"]["result"] == "ok", rows["tokenizer"]
    assert rows["chat template"]["result"] == "note" and report["ok"]


@pytest.mark.parametrize("template,facts", [
    ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", {"system"}),
    ("{{ messages[-1].content }}{% for t in tools or [] %}{{ t | tojson }}{% endfor %}", {"tools"}),
    ("{{ messages[-1].content }}{% if enable_thinking %} think {% endif %}", {"reasoning"}),
    ("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0].content }}", set()),
])
def test_what_a_template_can_do_is_found_out(folder, template, facts):
    (folder / "chat_template.jinja").write_text(template)
    known = json.loads(tandem("inspect", folder, "--json").stdout)["chat_template"]
    assert known["renders"] and {name for name in ("system", "tools", "reasoning") if known[name]} == facts


@pytest.mark.parametrize("damage,why", [
    (lambda folder: (folder / "config.json").unlink(), "config.json"),
    (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    (lambda folder: (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace("Qwen3ForCausalLM", "MambaForCausalLM")), "MambaForCausalLM"),
    (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    (lambda folder: os.truncate(folder / "model.safetensors", 1000), "model.safetensors"),
    (lambda folder: (folder / "tokenizer.json").unlink(), "token"),
], ids=["no config", "half a config", "another architecture", "no weights", "cut weights", "no tokenizer"])
def test_a_broken_folder_says_why_and_what_it_has(folder, free_port, damage, why):
    damage(folder)
    result = tandem("inspect", folder, "--json")
    known = json.loads(result.stdout)
    assert result.returncode == 1 and result.stderr == ""
    assert known["model"]["is_served"] is False and why in known["model"]["why"], known["model"]
    names = [row["name"] for row in known["folder"]["files"]]
    assert names == sorted(names) and set(names) == {file.name for file in folder.iterdir()}
    report, rows = check(folder, "--port", free_port)
    assert not report["ok"] and (rows["file"]["result"] == "problem" or rows["tokenizer"]["result"] == "problem")


def test_a_model_that_may_not_be_read_says_so(tiny, free_port, open_folder):
    if os.getuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may read everything, and there is no setpriv to become somebody else")
    file = open_folder / "model.gguf"
    shutil.copy(tiny.path, file)
    file.chmod(0)
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.getuid() == 0 else ()
    if prefix and subprocess.run([*prefix, "test", "-x", BIN / "tandem"], check=False).returncode != 0:
        pytest.skip(f"{BIN} is closed to others")
    report, rows = check(file, "--port", free_port, prefix=prefix, environment={"XDG_CACHE_HOME": "/nowhere"})
    assert rows["file"]["result"] == "problem" and "Permission denied" in rows["file"]["figure"]
    assert rows["cache folder"]["result"] == "note"


def test_without_a_home_there_is_no_cache(free_port):
    report, rows = check("--port", free_port, environment={"XDG_CACHE_HOME": "", "HOME": ""})
    assert rows["cache folder"]["result"] == "note" and "HOME" in rows["cache folder"]["figure"]


def test_few_open_files_are_a_problem(free_port):
    report, rows = check("--port", free_port, prefix=("prlimit", "--nofile=64:64"))
    assert rows["open files"]["result"] == "problem" and "ulimit -n" in rows["open files"]["advice"]


def test_certificates_are_looked_at(free_port, tmp_path):
    folder = tmp_path / "certs"
    subprocess.run([BIN / "tandem", "certs", folder], check=True, stdout=subprocess.DEVNULL)
    for name in ("cert.pem", "key.pem"):
        shutil.copy(folder / "router" / name, folder / "decode" / name)
    report, rows = check("--port", free_port, "--certs", folder)
    assert rows["certs router"]["result"] == "ok"
    assert rows["certs decode"]["result"] == "problem" and "router" in rows["certs decode"]["advice"]
    report, rows = check("--port", free_port, "--certs", folder / "router")
    assert "certs decode" not in rows and rows["certs router"]["values"]["days_left"] > 300


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl, which makes an expired certificate, is not there")
def test_an_expired_certificate_says_how_to_renew_it(free_port, tmp_path):
    folder = tmp_path / "certs"
    subprocess.run([BIN / "tandem", "certs", folder], check=True, stdout=subprocess.DEVNULL)
    (tmp_path / "names").write_text("subjectAltName=URI:tandem://role/decode,DNS:tandem\n")
    subprocess.run(["openssl", "req", "-new", "-key", folder / "decode/key.pem", "-subj", "/CN=decode", "-out",
                    tmp_path / "request"], check=True, capture_output=True)
    subprocess.run(["openssl", "x509", "-req", "-in", tmp_path / "request", "-CA", folder / "ca.pem", "-CAkey",
                    folder / "ca.key", "-days", "0", "-extfile", tmp_path / "names", "-out", folder / "decode/cert.pem"],
                   check=True, capture_output=True)

    def expired():  # it was good for the second in which it was made
        row = check("--port", free_port, "--certs", folder)[1]["certs decode"]
        return row if row["result"] == "problem" else None

    row = wait_until("the certificate has expired", expired)
    assert "expired" in row["figure"] and row["advice"].endswith("tandem certs DIR --renew decode"), row


@pytest.mark.parametrize("words", [["check", "a", "b"], ["check", "--port", "70000"], ["inspect"],
                                   ["inspect", "a", "b"], ["check", "--kv-transport", "pigeon"]])
def test_a_wrong_command_line_is_status_2(words):
    result = tandem(*words)
    assert result.returncode == 2 and result.stdout == "" and result.stderr != ""


def test_a_missing_model_is_status_1():
    result = tandem("inspect", "/nowhere/model.gguf")
    assert result.returncode == 1
    assert result.stderr == "tandem inspect: /nowhere/model.gguf: No such file or directory\n"
