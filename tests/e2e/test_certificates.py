"""Single processes over TCP: mutual TLS on every RPC link, and refusals without it."""
import contextlib
import re
import signal
import subprocess
import threading

import openai
import pytest

from cluster import BIN, FAULTS, wait_until


class Process:
    """One binary with its log."""

    def __init__(self, name, *flags):
        self.process = subprocess.Popen([str(BIN / name), *map(str, flags)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def log(self):
        return "".join(self.lines)

    def find(self, pattern):
        """The first group of a log line that may still be to come."""
        def look():
            match = re.search(pattern, self.log())
            assert match or self.process.poll() is None, self.log()
            return match

        return wait_until(f"the log says {pattern}", look)[1]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.reader.join(10)
        assert not FAULTS.search(self.log()), self.log()
        return self.process.returncode


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls") / "certs"
    subprocess.run([BIN / "tandem", "certs", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


@contextlib.contextmanager
def cluster_over_tcp(model, role_folder):
    """Scheduler, router, prefill, decode; role_folder(role) is what each gets with --certs."""
    processes = {}

    def start(role, *flags):
        folder = role_folder(role)
        processes[role] = Process(f"tandem-{role}", *flags, *(["--certs", folder] if folder else []))
        return processes[role]

    try:
        scheduler = start("scheduler", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                          "--remote-tokens-min", 1).find(r"listening rpc (\S+)")
        for role in ("prefill", "decode"):
            start(role, model.path, "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--scheduler", scheduler,
                  "--threads", 1, "--kv-transport", "map")
        origin = start("router", "--listen", "127.0.0.1:0", "--scheduler", scheduler).find(r"listening http (\S+)")
        yield processes, origin
        for role in ("router", "decode", "prefill", "scheduler"):
            assert processes[role].stop() == 0, processes[role].log()
    finally:
        for process in processes.values():
            process.process.kill()


def test_kv_crosses_between_processes_with_certificates(tiny, certificates):
    with cluster_over_tcp(tiny, lambda role: certificates / role) as (processes, origin):
        for role in ("prefill", "decode"):
            processes[role].find(r"(registered with the scheduler)")
        with openai.OpenAI(base_url=f"http://{origin}/v1", api_key="none", max_retries=0,
                           default_headers={"x-tandem-trace": "1"}) as client:
            def crossed():
                try:
                    reply = client.completions.create(model="", prompt="The quick brown fox " * 8, max_tokens=4)
                except openai.APIStatusError:  # the router may not know the worker yet
                    return None
                return reply.tandem["kv"]["bytes"] or None

            assert wait_until("KV has crossed", crossed) > 0


def test_a_worker_with_the_wrong_role_is_not_taken(tiny, certificates):
    """A router's certificate in a decode worker's hands opens no door."""
    with cluster_over_tcp(tiny, lambda role: certificates / ("router" if role == "decode" else role)) as (processes, _):
        processes["prefill"].find(r"(registered with the scheduler)")
        processes["decode"].find(r"(this role may not call)")
        assert "registered with the scheduler" not in processes["decode"].log()


@pytest.mark.parametrize("name", ["tandem-scheduler", "tandem-decode"])
def test_a_listener_beyond_loopback_wants_certificates(tiny, name):
    words = [tiny.path] if name == "tandem-decode" else []
    process = Process(name, *words, "--listen", "0.0.0.0:0", "--http-listen", "127.0.0.1:0")
    wait_until("it has ended", lambda: process.process.poll() is not None)
    assert process.stop() != 0
    assert "--certs" in process.log() and "--insecure" in process.log()
