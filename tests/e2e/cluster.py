"""Starts clusters with `tandem serve`, asks them, looks into them, breaks them, and ends them.

Waiting is always for an event that can be seen (a line, a metric, an answer), with a deadline that only
a fault reaches. Only processes that were started here are signalled, by their number.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request

import openai

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("TANDEM_BIN", ROOT / "build/bin")).resolve()
# Without sanitizers, for tests that compute much.
FAST_BIN = pathlib.Path(os.environ.get("TANDEM_FAST_BIN", BIN)).resolve()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
DEADLINE_S = int(os.environ.get("TANDEM_E2E_DEADLINE_S", 120))
LISTENS = re.compile(r"^tandem: (\S+) listens(?: at (http://\S+))? \(pid (\d+),")
FAULTS = re.compile(
    r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|Assertion .* failed|is impossible in state")

# What must be zero when nothing runs. Caches and connections may stay.
WORKER_GAUGES = (
    'tandem_kv_blocks{state="running"}', 'tandem_kv_blocks{state="reserved"}',
    'tandem_kv_blocks{state="landing"}', 'tandem_kv_blocks{state="held"}',
    'tandem_kv_blocks{state="quarantined"}', "tandem_engine_running", "tandem_engine_waiting",
    "tandem_engine_prefilling", "tandem_engine_prefilling_tokens",
    "tandem_engine_waiting_tokens", "tandem_worker_requests", "tandem_worker_imports",
    "tandem_worker_exports", "tandem_worker_transfers_in", "tandem_worker_transfers_out",
    "tandem_kvtransfer_incoming", "tandem_kvtransfer_outgoing", "tandem_kvtransfer_receiving",
    "tandem_kvtransfer_sending", "tandem_kvtransfer_quarantined", "tandem_front_exchanges",
    "tandem_front_preparing")
ROUTER_GAUGES = ("tandem_router_queued", "tandem_router_running", "tandem_front_exchanges",
                 "tandem_front_preparing")


def wait_until(what, condition, deadline_s=DEADLINE_S):
    """Polls until condition() is true and returns its value; fails with `what` past the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {deadline_s} s in vain until {what() if callable(what) else what}"
        time.sleep(0.01)


def parse_metrics(page):
    """Name with labels -> value. The label model_name, which all series share, is left out."""
    values = {}
    for line in page.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = re.sub(r'model_name="[^"]*",?', "", name).replace("{}", "")
            values[name] = float(value)
    return values


class Answer:
    """What came of one request, in a form that can be compared."""

    def __init__(self, text, finish, prompt_tokens, completion_tokens, trace=None):
        self.text, self.finish = text, finish
        self.prompt_tokens, self.completion_tokens, self.trace = prompt_tokens, completion_tokens, trace

    def __eq__(self, other):
        return self.key() == other.key()

    def key(self):
        return (self.text, self.finish, self.prompt_tokens, self.completion_tokens)

    def __repr__(self):
        return repr(self.key())


class Cluster:
    """One `tandem serve`, and the way to talk to it. Use it as a context."""

    def __init__(self, model, *flags, environment=None, programs=BIN):
        for name in environment or {}:  # a misspelt one would be ignored without a word
            assert not name.startswith("TANDEM_") or f"`{name}`" in OPERATIONS, f"no flag is called {name}"
        self.model = str(model)
        self.log_path = pathlib.Path(tempfile.mkdtemp(prefix="tandem-e2e-")) / "log"
        self.lines = []
        self.places = {}  # name -> (origin or None, pid)
        self.killed = False
        self.new_line = threading.Condition()
        command = [str(programs / "tandem"), "serve", self.model, "--port", "0", "--log-level", "info",
                   *[str(flag) for flag in flags]]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", env={**os.environ, **(environment or {})})
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        try:
            self.origin = self._read_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _read_log(self):
        with open(self.log_path, "w") as log:
            for line in self.process.stderr:
                log.write(line)
                log.flush()
                match = LISTENS.match(line)
                with self.new_line:
                    self.lines.append(line)
                    if match:
                        self.places[match[1]] = (match[2], int(match[3]))
                    self.new_line.notify_all()

    def _read_ready(self):
        line = self.process.stdout.readline()
        assert line.startswith("ready http://"), f"no cluster: {line!r}\n{self.log()}"
        return line.split()[1]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        status = self.stop()
        found = [line for line in self.lines if FAULTS.search(line)]
        if kind is not None:
            print(self.log())
            return
        assert not found, f"{found}\n{self.log()}"
        assert status == 0, f"tandem serve ended with status {status}\n{self.log()}"
        shutil.rmtree(self.log_path.parent)  # the whole log stays where something went wrong

    def log(self):
        return "".join(self.lines[-200:])

    def stop(self, deadline_s=DEADLINE_S):
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its children go with it
            self.process.wait()
        self.reader.join(10)
        return self.process.returncode

    # ---- processes ----

    def pid(self, name):
        return self.places[name][1]

    def address(self, name):
        return self.places[name][0]

    def signal(self, name, number):
        os.kill(self.pid(name), number)

    def kill(self, name):
        """kill -9, and the old process number."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_restarted(self, name, old_pid):
        wait_until(f"{name} is back", lambda: self.pid(name) != old_pid)

    def wait_line(self, pattern):
        wait_until(f"the log says {pattern}", lambda: any(re.search(pattern, line) for line in list(self.lines)))

    def descriptors(self, name):
        return len(os.listdir(f"/proc/{self.pid(name)}/fd"))

    # ---- metrics ----

    def metrics(self, name="router"):
        origin = self.origin if name == "router" else self.address(name)
        with urllib.request.urlopen(origin + "/metrics", timeout=30) as page:
            return parse_metrics(page.read().decode())

    def metric(self, name, metric):
        values = self.metrics(name)
        assert metric in values, f"{name} has no metric {metric}; it has {sorted(values)}"
        return values[metric]

    def wait_metric(self, name, metric, condition):
        """Waits until condition(value) holds. A process that is just being restarted has no value."""
        seen = []

        def check():
            with contextlib.suppress(OSError):
                seen[:] = [self.metric(name, metric)]
                return condition(seen[0])

        wait_until(lambda: f"{name}'s {metric} is right; it is {seen}", check)

    def workers(self):
        return [name for name in self.places if name.startswith(("prefill", "decode"))]

    def wait_fleet(self, count):
        """Until the router can use so many workers, which the scheduler knows as well."""
        self.wait_metric("router", "tandem_router_workers_ready", lambda value: value == count)
        self.wait_metric("router", "tandem_router_schedulers_connected", lambda value: value == 1)

    def not_at_rest(self):
        """Gauges that are not zero, by process. Our own question for metrics is no work."""
        busy = {}
        for name in ["router", *self.workers()]:
            values = self.metrics(name)
            gauges = ROUTER_GAUGES if name == "router" else WORKER_GAUGES
            for gauge in gauges:
                assert gauge in values, f"{name} has no gauge {gauge}"
                if values[gauge] != 0:
                    busy[f"{name} {gauge}"] = values[gauge]
            if name != "router":
                blocks = {state: values[f'tandem_kv_blocks{{state="{state}"}}'] for state in
                          ("total", "free", "cached", "running", "reserved", "landing", "held", "quarantined")}
                total = blocks.pop("total")
                assert total == sum(blocks.values()), f"{name}: blocks do not add up: {total} {blocks}"
        return busy

    def wait_at_rest(self):
        last = {}

        def check():
            try:
                last.clear()
                last.update(self.not_at_rest())
            except OSError as error:  # one that is being restarted
                last["metrics"] = error
            return not last

        wait_until(lambda: f"all gauges are zero; they are {last}", check)

    # ---- questions ----

    def client(self, origin=None):
        return openai.OpenAI(base_url=(origin or self.origin) + "/v1", api_key="none", max_retries=0,
                             timeout=DEADLINE_S, default_headers={"x-tandem-trace": "1"})

    def ask(self, prompt, **options):
        """One prompt of prompts.jsonl, whole answer."""
        with self.client() as client:  # and its connection ends with it
            if prompt["kind"] == "chat":
                reply = client.chat.completions.create(model="", messages=prompt["messages"], **options)
                text = reply.choices[0].message.content
            else:
                reply = client.completions.create(model="", prompt=prompt["text"], **options)
                text = reply.choices[0].text
        return Answer(text, reply.choices[0].finish_reason, reply.usage.prompt_tokens,
                      reply.usage.completion_tokens, getattr(reply, "tandem", None))

    def stream(self, prompt, **options):
        return Stream(self, prompt, options)


class Stream:
    """A running answer, piece by piece."""

    def __init__(self, cluster, prompt, options):
        self.client = client = cluster.client()
        options = {"stream": True, "stream_options": {"include_usage": True}, "model": "", **options}
        self.is_chat = prompt["kind"] == "chat"
        if self.is_chat:
            self.chunks = client.chat.completions.create(messages=prompt["messages"], **options)
        else:
            self.chunks = client.completions.create(prompt=prompt["text"], **options)
        self.text, self.finish, self.usage, self.trace = "", None, None, None

    def step(self):
        """Takes one chunk; False at the end."""
        for chunk in self.chunks:
            if chunk.choices:
                choice = chunk.choices[0]
                self.text += (choice.delta.content if self.is_chat else choice.text) or ""
                self.finish = choice.finish_reason or self.finish
            self.usage = chunk.usage or self.usage
            self.trace = getattr(chunk, "tandem", None) or self.trace
            return True
        return False

    def until_text(self):
        while not self.text:
            assert self.step(), "the answer ended without text"
        return self

    def rest(self):
        try:
            while self.step():
                pass
        finally:
            self.client.close()
        assert self.finish and self.usage, "the stream ended without a finish reason or usage"
        return Answer(self.text, self.finish, self.usage.prompt_tokens, self.usage.completion_tokens, self.trace)


class Asking:
    """A question in a thread of its own, for when something is to happen meanwhile."""

    def __init__(self, function, *arguments, **options):
        self.value, self.error = None, None

        def run():
            try:
                self.value = function(*arguments, **options)
            except BaseException as error:  # handed to the one who waits
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def result(self, deadline_s=DEADLINE_S):
        self.thread.join(deadline_s)
        assert not self.thread.is_alive(), "no answer"
        if self.error is not None:
            raise self.error
        return self.value
