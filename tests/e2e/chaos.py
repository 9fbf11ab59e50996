#!/usr/bin/env python3
"""Breaks a whole cluster at random under load, and checks every answer.

    chaos.py --seconds 60 --seed 7 --transport ucx-shm

Routers, schedulers and workers are single binaries. Their answers are recorded from one undisturbed worker first. Then
clients of all manners ask them while processes are killed, frozen, ended and started again and links are cut. Every
`--cycle` seconds the breaking pauses: then all must answer without one error, come to rest, and hold no
more descriptors than before. Exits with 1 if anything was not as it should be; the logs are then kept.
"""
import argparse
import json
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

from chaos_cluster import TRANSPORTS, Site
from chaos_http import Answer, Connection, Manners
from cluster import BIN, ROOT, wait_until
from conftest import TINY, demo_model_path

BOUND_S = 100  # the longest that an exchange may take: its deadline is 60 s, and processes are frozen meanwhile
# Errors that a client may see while processes die. 400 belongs to prompts that do not fit, and is judged apart.
KINDS = {429: {"rate_limit_exceeded"}, 503: {"overloaded", "not_ready", "worker_lost"}, 504: {"timeout"}}
AFTERMATH_S = 20  # for so long after a disturbance an error may come of it
DESCRIPTORS_SLACK = 6
MEMORY_SLACK = 64 << 20


class Case:
    """A request and what the only right answer to it is."""

    def __init__(self, path, body, expected=None):
        self.path, self.body, self.expected = path, body, expected
        self.is_chat = path.endswith("chat/completions")


def make_cases(rng, words_max, tokens_max):
    """Requests of all sizes; two in three have an answer that depends on a seed."""
    lines = [json.loads(line) for line in (ROOT / "tests/data/e2e/prompts.jsonl").read_text().splitlines()]
    story = next(line["text"] for line in lines if line["id"] == "raw-long").split(" ")
    bodies = []
    for line in lines:
        if line["id"].endswith("-long"):
            continue
        bodies.append(("/v1/chat/completions", {"messages": line["messages"]}) if line["kind"] == "chat"
                      else ("/v1/completions", {"prompt": line["text"]}))
    for i in range(24 if tokens_max > 100 else 12):
        words = (story * (1 + words_max // len(story)))[:rng.choice((20, 60, 120, words_max // 2, words_max))]
        bodies.append(("/v1/completions", {"prompt": f"{rng.randrange(10**6)}. " + " ".join(words)}))
    cases = []
    for i, (path, body) in enumerate(bodies):
        body = {"model": "", "max_tokens": rng.choice((1, 2, 12, tokens_max // 3, tokens_max)), **body}
        if i % 3:
            body |= {"temperature": 0.9, "top_p": 0.95, "seed": i}
        else:
            body |= {"temperature": 0}
        cases.append(Case(path, body))
    return cases


def ask(port, case, is_stream, manners=Manners(), connection=None):
    """One exchange, settled; and the connection, which is still open if the answer was whole."""
    body = dict(case.body)
    if is_stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = Answer(case.is_chat, is_stream)
    deadline = time.monotonic() + BOUND_S
    try:
        connection = connection or Connection(("127.0.0.1", port), manners, deadline)
    except OSError as error:
        answer.ending, answer.note = "refused", str(error)
        return answer, None
    connection.deadline, connection.manners, connection.leave_at = deadline, manners, None
    connection.exchange(case.path, body, answer)
    answer.settle()
    if answer.ending != "whole" or answer.fields.get("connection", "").lower() == "close":
        connection.close()
        connection = None
    return answer, connection


def record(site, cases, rng):
    """Answers of one worker that serves alone; then some cases more, with stop strings found in them."""
    worker = site.recorder
    worker.start()
    worker.wait_started()
    wait_until("the recorder is ready", lambda: worker.get("/ready")[0] == 200)

    def expect(case):
        answer, connection = ask(worker.http_port, case, False)
        if connection:
            connection.close()
        assert answer.ending == "whole" and answer.status == 200, answer
        case.expected = answer.key()

    for case in cases:
        expect(case)
    for case in rng.sample([case for case in cases if len(case.expected[0]) > 12], 8):
        at = rng.randrange(4, len(case.expected[0]) - 3)
        stopped = Case(case.path, {**case.body, "stop": [case.expected[0][at:at + 3], "never said"]})
        expect(stopped)
        cases.append(stopped)
    worker.expect_death = True
    worker.child.terminate()
    assert worker.child.wait(60) == 0


class Load:
    """Clients of all manners, until told to end."""

    def __init__(self, site, cases, context, seed, clients):
        self.site, self.cases, self.context = site, cases, context
        self.seed, self.count = seed, clients
        self.threads, self.stopping = [], None
        self.tally, self.lock = {}, threading.Lock()
        self.longest, self.kv_bytes, self.fallbacks = 0, 0, {}

    def begin(self, cycle):
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._client, args=(random.Random(f"{self.seed}/{cycle}/{i}"),))
                        for i in range(self.count)]
        for thread in self.threads:
            thread.start()

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(BOUND_S + 30)
            if thread.is_alive():
                self.site.violation("a client hangs")

    def _client(self, rng):
        try:
            connection, target = None, None
            while not self.stopping.is_set():
                if connection and rng.random() < 0.5:
                    connection.close()
                    connection = None
                if not connection:
                    target = self.site.router if rng.random() < 0.9 else rng.choice(self.site.workers)
                connection = self._one(rng, target, connection)
                if rng.random() < 0.3:
                    time.sleep(rng.random() * 0.2)
            if connection:
                connection.close()
        except Exception as error:  # a bug of ours or nonsense on the wire: either must be seen
            self.site.violation(f"a client broke: {error!r}")
            raise

    def _one(self, rng, target, connection):
        case = rng.choice(self.cases)
        if rng.random() < 0.5:  # the answer is the same, but nothing of it is in a cache
            case = Case(case.path, {**case.body, "cache_salt": str(rng.random())}, case.expected)
        if rng.random() < 0.04:
            case = Case("/v1/completions", {"model": "", "prompt": "x y " * (self.context + 10), "max_tokens": 4})
        leaves = rng.random() < 0.2
        manners = Manners(leave_after_s=10 ** rng.uniform(-3, 0.3) if leaves else None,
                          leave_by=rng.choice(("close", "reset", "half")), slow=rng.random() < 0.08)
        begun = time.monotonic()
        opened = connection.opened if connection else begun
        answer, connection = ask(target.http_port, case, rng.random() < 0.6, manners, connection)
        now = time.monotonic()
        verdict, wrong = judge(self.site, target, case, answer, opened, begun, now)
        with self.lock:
            self.tally[verdict] = self.tally.get(verdict, 0) + 1
            if answer.ending != "left":
                self.longest = max(self.longest, now - begun)
            if answer.trace:
                self.kv_bytes += answer.trace["kv"]["bytes"]
                reason = answer.trace["kv"]["fallback"]
                self.fallbacks[reason] = self.fallbacks.get(reason, 0) + 1
        if wrong:
            self.site.violation(f"{wrong}: {target.name} took {now - begun:.1f} s for {str(case.body)[:200]}: "
                                f"expected {case.expected} got {answer} id {answer.fields.get('x-request-id')}")
        return connection


def judge(site, target, case, answer, opened, begun, now):
    """What came of it in a word, and what is wrong with it, or None."""
    if case.expected is None:
        if answer.ending == "whole" and answer.status == 400:
            right = answer.error and answer.error["code"] == "context_length_exceeded"
            return "too long", None if right else "a wrong 400"
    elif answer.is_stream and not case.expected[0].startswith(answer.text):
        return "wrong", "a stream begins differently"
    if answer.late:
        return "wrong", "something behind the end of a stream"
    if answer.ending == "left":
        return "left", None
    if answer.ending == "hung":
        return "hung", "no end in time"
    if answer.ending in ("refused", "cut") and answer.error is None:
        explained = target.disturbed(opened - 1, now)
        return answer.ending, None if explained else f"{answer.ending} by a process that nobody touched"
    if answer.error is not None:
        return judge_error(site, target, answer, begun, now)
    if answer.is_stream and not answer.done:
        return "wrong", "a clean end without [DONE]"
    if answer.key() != case.expected:
        return "wrong", "a different answer"
    return "answered", None


def judge_error(site, target, answer, begun, now):
    in_stream = answer.status == 200
    if in_stream and (answer.ending != "cut" or answer.done):
        return "wrong", "an error event, and then a clean end"
    code = answer.error["code"]
    if in_stream:
        known = any(code in codes for codes in KINDS.values())
    else:
        known = code in KINDS.get(answer.status, ())
    word = f"{'in stream' if in_stream else answer.status} {code}"
    if not known:
        return word, "an error of a kind that has no cause here"
    if not any(one.disturbed(begun - AFTERMATH_S, now) for one in site.all):
        return word, "an error though nobody touched anything"
    return word, None


class Breaker:
    """Breaks one thing after the other; two of them run side by side."""

    def __init__(self, site, rng, tally):
        self.site, self.rng, self.tally = site, rng, tally
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            while not self.stopping.wait(self.rng.expovariate(1 / 1.2)):
                self._one()
        except Exception as error:
            self.site.violation(f"breaking failed: {error!r}")
            raise

    def _one(self):
        rng = self.rng
        weights = [1 if one is self.site.router else 2 if one.role == "scheduler" else 4 for one in self.site.all]
        one = rng.choices(self.site.all, weights)[0]
        ways = [one.kill, one.kill, one.freeze, one.freeze, one.terminate, one.freeze_and_kill]
        if one.proxy:
            ways += [one.cut_links, one.cut_links, one.hold_links]
        way = rng.choice(ways)
        word = f"{way.__name__} {one.role}"
        self.site.say(f"{way.__name__} {one.name}")
        with self.site.report_lock:
            self.tally[word] = self.tally.get(word, 0) + 1
        way(random.Random(rng.random()))


class Calm:
    """What must hold when nothing is broken any more."""

    def __init__(self, site, cases):
        self.site, self.cases = site, cases
        self.descriptors = None
        self.numbers = 0

    def check(self, context):
        self.site.wait_whole()
        self._pair_all(context)
        self._all_answer(context)
        self.site.check_at_rest(context)
        self._check_descriptors(context)

    def _pair_all(self, context):
        """Every prefill worker sends to every decode worker: what that opens is part of the baseline."""
        prefills = sum(one.role == "prefill" for one in self.site.workers)
        decodes = [one for one in self.site.workers if one.role == "decode"]
        end = time.monotonic() + 40

        def paired():
            return all(one.metrics().get("tandem_worker_pairs", 0) >= prefills for one in decodes)

        while prefills and not paired():
            if time.monotonic() > end:
                pairs = {one.name: one.metrics().get("tandem_worker_pairs") for one in decodes}
                self.site.violation(f"{context}: not all workers pair: {pairs}")
                return
            # in even bursts each decode worker would get the same prefill worker every time
            threads = [threading.Thread(target=self._probe) for _ in range(random.randint(1, 7))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _probe(self):
        self.numbers += 1
        body = {"model": "", "prompt": f"{random.random()} {self.numbers} " + "pair " * random.randint(8, 60),
                "max_tokens": random.randint(1, 8)}
        _, connection = ask(self.site.router.http_port, Case("/v1/completions", body), False)
        if connection:
            connection.close()

    def _all_answer(self, context):
        """No excuse is taken here."""
        def one(case, is_stream):
            answer, connection = ask(self.site.router.http_port, case, is_stream)
            if connection:
                connection.close()
            if answer.ending != "whole" or answer.status != 200 or answer.key() != case.expected:
                self.site.violation(f"{context}: expected {case.expected} got {answer}")

        chosen = random.Random(context).sample(self.cases, 12)
        threads = [threading.Thread(target=one, args=(case, i % 2 == 0)) for i, case in enumerate(chosen)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _check_descriptors(self, context):
        def now():
            return {one.name: (one.statistics() or (0, 0))[1] for one in self.site.all}

        if self.descriptors is None:
            self.descriptors = now()
            return

        def grown():
            return {name: (self.descriptors[name], count) for name, count in now().items()
                    if count > self.descriptors[name] + DESCRIPTORS_SLACK}

        end = time.monotonic() + 20
        while grown() and time.monotonic() < end:
            time.sleep(0.2)
        if found := grown():
            self.site.violation(f"{context}: descriptors grow: {found}")


class Memory:
    """Resident bytes of each incarnation at each calm: after the first ones they must not go on growing."""

    def __init__(self, site, limit):
        self.site, self.limit, self.seen = site, limit, {}

    def check(self, context):
        for one in self.site.all:
            if (statistics := one.statistics()) is None:
                continue
            values = self.seen.setdefault((one.name, one.incarnation), [])
            values.append(statistics[0])
            if len(values) > 2 and values[-1] > values[1] + self.limit:
                self.site.violation(f"{context}: {one.name} grows: {[value >> 20 for value in values]} MiB")

    def longest(self):
        name, values = max(self.seen.items(), key=lambda item: len(item[1]))
        return f"{name[0]}: {[value >> 20 for value in values]} MiB"


def run(site, options, rng):
    # prompts of 2,000 tokens, or as many as a context of 1,024 holds
    words, tokens, context = (1500, 40, 8192) if options.model == "demo" else (500, 120, 1024)
    cases = make_cases(rng, words, tokens)
    record(site, cases, rng)
    site.say(f"recorded {len(cases)} answers")
    site.start()
    calm, faults = Calm(site, cases), {}
    memory = Memory(site, MEMORY_SLACK * (8 if options.asan_bin else 1))
    load = Load(site, cases, context, options.seed, options.clients)
    calm.check("before")
    memory.check("before")
    end, cycle = time.monotonic() + options.seconds, 0
    while time.monotonic() < end and len(site.violations) < 20:
        cycle += 1
        load.begin(cycle)
        breakers = [Breaker(site, random.Random(f"{options.seed}/{cycle}/{i}"), faults)
                    for i in range(options.breakers)]
        time.sleep(max(1, min(options.cycle, end - time.monotonic())))
        for breaker in breakers:
            breaker.stopping.set()
        for breaker in breakers:
            breaker.thread.join()
        load.end()
        site.say(f"calm {cycle}; so far {load.tally}")
        calm.check(f"calm {cycle}")
        memory.check(f"calm {cycle}")
        site.say(f"those who live have counted {site.telling()}")
    site.say(f"requests: {dict(sorted(load.tally.items()))}; the longest took {load.longest:.1f} s")
    site.say(f"KV that crossed: {load.kv_bytes} bytes; fallbacks {load.fallbacks}")
    site.say(f"broken: {dict(sorted(faults.items()))}")
    site.say(f"memory of what lived longest: {memory.longest()}")
    if options.prefill and load.kv_bytes == 0:
        site.violation("no KV crossed at all")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long things are broken")
    parser.add_argument("--cycle", type=float, default=15, help="seconds between two calms")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--transport", choices=TRANSPORTS, default="ucx-shm")
    parser.add_argument("--prefill", type=int, default=2)
    parser.add_argument("--decode", type=int, default=2)
    parser.add_argument("--schedulers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--breakers", type=int, default=2)
    parser.add_argument("--model", choices=("tiny", "demo"), default="tiny",
                        help="demo has prompts of 2,000 tokens, and is slower")
    parser.add_argument("--kv-bytes", default="2MiB", help="small, so that sequences are preempted")
    parser.add_argument("--unix", action="store_true", help="RPC by unix sockets, without proxies that cut links")
    parser.add_argument("--certs", action="store_true", help="mutual TLS on all RPC links")
    parser.add_argument("--asan-bin", type=pathlib.Path, help="take the binaries from here; more memory is allowed")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--folder", type=pathlib.Path, help="where the logs go")
    return parser.parse_args()


def main():
    options = parse()
    folder = options.folder or pathlib.Path(tempfile.mkdtemp(prefix="tandem-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    model = demo_model_path() if options.model == "demo" else TINY
    environment = {"TANDEM_LOG_LEVEL": options.log_level}
    site = Site(folder, options.asan_bin or BIN, model, options, environment, options.unix)
    try:
        run(site, options, random.Random(options.seed))
    except AssertionError as error:
        site.violation(f"the run ended early: {error}")
    finally:
        site.stop()
    site.say(f"{len(site.violations)} violations; seed {options.seed}, {options.transport}"
             + (f"; logs in {folder}" if site.violations else ""))
    if not site.violations and not options.folder:
        shutil.rmtree(folder)
    return 1 if site.violations else 0


if __name__ == "__main__":
    sys.exit(main())
