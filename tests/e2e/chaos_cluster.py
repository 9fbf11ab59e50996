"""The processes of a chaos run: each a single binary with an address that outlives it, logs that outlive it, and a
record of when it was disturbed. TCP links between them go through a proxy that can be cut or held up.
"""
import contextlib
import pathlib
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

from cluster import BIN, FAULTS, ROUTER_GAUGES, WORKER_GAUGES, parse_metrics, wait_until

TRANSPORTS = {
    "ucx-shm": ["--kv-transport", "ucx", "--ucx-tcp=false"],
    "ucx-tcp": ["--kv-transport", "ucx", "--ucx-shm=false"],
    "map": ["--kv-transport", "map"],
}
DRAIN_S = 3
# What would be a bug, however processes die around it.
NEVER = ("tandem_engine_content_conflicts_total", "tandem_kvtransfer_corrupt_total",
         "tandem_kvtransfer_refused_forged_total", "tandem_kvtransfer_refused_malformed_total",
         "tandem_worker_invalid_messages_total", "tandem_router_invalid_messages_total",
         "tandem_router_scheduler_messages_invalid_total", "tandem_scheduler_violations_total",
         "tandem_scheduler_unknown_messages_total", "tandem_router_texts_failed_total",
         "tandem_worker_pairs_refused_total")
# What shows how much was really broken.
TELLING = ("tandem_worker_imports_landed_total", "tandem_worker_imports_fallback_total",
           "tandem_worker_imports_retried_total", "tandem_worker_imports_canceled_total",
           "tandem_worker_asks_lost_total", "tandem_worker_asks_stalled_total", "tandem_worker_leases_expired_total",
           "tandem_worker_quarantines_total", "tandem_worker_attaches_total", "tandem_engine_preemptions_total",
           "tandem_kvtransfer_cuts_total", "tandem_kvtransfer_late_total", "tandem_kvtransfer_refused_stale_total",
           "tandem_kvtransfer_refused_unknown_total", "tandem_router_retries_total", "tandem_router_attaches_total",
           "tandem_router_placed_alone_total")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Proxy:
    """Passes bytes on between a port and another one, until told to cut or to hold."""

    def __init__(self, target_port):
        self.target_port, self.port = target_port, None
        self.held_until = 0
        self.partner, self.lock = {}, threading.Lock()
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.selector.register(self.listener, selectors.EVENT_READ)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            for key, _ in self.selector.select():
                if (pause := self.held_until - time.monotonic()) > 0:
                    time.sleep(pause)
                with self.lock:
                    if key.fileobj is self.listener:
                        self._accept()
                    elif key.fileobj in self.partner:
                        self._pass(key.fileobj)

    def _accept(self):
        near, _ = self.listener.accept()
        far = socket.socket()
        try:
            far.connect(("127.0.0.1", self.target_port))
        except OSError:
            near.close()
            far.close()
            return
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(5)
            self.partner[one] = other
            self.selector.register(one, selectors.EVENT_READ)

    def _pass(self, one):
        try:
            data = one.recv(65536)
            if data:
                self.partner[one].sendall(data)
                return
        except OSError:
            pass
        self._drop(one)

    def _drop(self, one):
        for end in (one, self.partner[one]):
            del self.partner[end]
            self.selector.unregister(end)
            end.close()

    def cut(self):
        with self.lock:
            while self.partner:
                self._drop(next(iter(self.partner)))

    def hold(self, seconds):
        self.held_until = time.monotonic() + seconds


class Process:
    """A binary that is started, broken and started again at the same addresses."""

    def __init__(self, site, name, role, arguments):
        self.site, self.name, self.role = site, name, role
        self.http_port = free_port()
        self.rpc_port, self.proxy, self.address = None, None, None
        self.arguments = arguments
        self.child, self.incarnation = None, 0
        self.log_path = site.folder / f"{name}.log"
        self.disturbances = []  # [begin, end or None]
        self.expect_death = False
        self.lock = threading.RLock()  # one disturbance at a time

    def give_rpc_address(self, unix):
        if unix:
            self.address = f"unix:{self.site.folder}/{self.name}.sock"
            return ["--listen", self.address]
        self.rpc_port = free_port()
        self.proxy = Proxy(self.rpc_port)
        self.address = f"127.0.0.1:{self.proxy.port}"
        listen = ["--listen", f"127.0.0.1:{self.rpc_port}"]
        return listen if self.role == "scheduler" else [*listen, "--advertise", self.address]

    def start(self):
        self.incarnation += 1
        self.expect_death = False
        with open(self.log_path, "a") as log:
            log.write(f"---- incarnation {self.incarnation}\n")
            log.flush()
            self.child = subprocess.Popen(
                [str(self.site.programs / f"tandem-{self.role}"), *self.arguments], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env={**os.environ, **self.site.environment})

    def get(self, path, timeout=10):
        """Status and body of a page; (0, "") if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=timeout) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self):
        status, page = self.get("/metrics")
        return parse_metrics(page) if status == 200 else {}

    def wait_answering(self):
        wait_until(f"{self.name} answers", lambda: self.child.poll() is not None or self.get("/health")[0] == 200)

    def wait_started(self):
        self.wait_answering()
        assert self.child.poll() is None, f"{self.name} does not start: {self.log_path.read_text()[-2000:]}"

    def disturbed(self, begin, end):
        """Whether something was done to it, or was not over, between the two."""
        return any(b <= end and (e is None or e >= begin) for b, e in list(self.disturbances))

    @contextlib.contextmanager
    def disturbing(self):
        with self.lock:
            disturbance = [time.monotonic(), None]
            self.disturbances.append(disturbance)
            try:
                yield
            finally:
                disturbance[1] = time.monotonic()

    def statistics(self):
        """Resident bytes and descriptors."""
        with contextlib.suppress(OSError):
            pages = int(pathlib.Path(f"/proc/{self.child.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{self.child.pid}/fd"))
        return None

    # ---- what can be done to it ----

    def kill(self, rng):
        with self.disturbing():
            self.expect_death = True
            self.child.kill()
            self.child.wait()
            time.sleep(rng.choice((0, 0, 0.2, 1.5)))
            self.start()
            self.wait_answering()

    def freeze(self, rng):
        seconds = rng.choice((0.05, 0.3, 1, 2.5, 7, 12))
        with self.disturbing():
            self.child.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            self.child.send_signal(signal.SIGCONT)

    def freeze_and_kill(self, rng):
        with self.disturbing():
            self.child.send_signal(signal.SIGSTOP)
            time.sleep(rng.choice((0.1, 1, 3)))
            self.kill(rng)

    def terminate(self, rng):
        with self.disturbing():
            self.expect_death = True
            self.child.send_signal(signal.SIGTERM)
            if rng.random() < 0.3:
                time.sleep(rng.choice((0.01, 0.2, 1)))
                self.child.send_signal(signal.SIGTERM)
            else:
                wait_until(f"{self.name} drains", lambda: self.get("/ready", timeout=1)[0] != 200, 10)
            try:
                status = self.child.wait(DRAIN_S + 30)
            except subprocess.TimeoutExpired:
                self.site.violation(f"{self.name} does not end after SIGTERM")
                self.child.send_signal(signal.SIGABRT)
                status = self.child.wait()
            if status != 0:
                self.site.violation(f"{self.name} ended with status {status} after SIGTERM")
            self.start()
            self.wait_answering()

    def cut_links(self, rng):
        with self.disturbing():
            self.proxy.cut()

    def hold_links(self, rng):
        with self.disturbing():
            seconds = rng.choice((0.1, 0.5, 2, 4))
            self.proxy.hold(seconds)
            time.sleep(seconds)
            if rng.random() < 0.5:
                self.proxy.cut()


class Site:
    """All processes of a run."""

    def __init__(self, folder, programs, model, options, environment, unix):
        self.folder, self.programs, self.environment = folder, programs, environment
        self.violations, self.report_lock = [], threading.Lock()
        self.started = time.monotonic()
        drain = ["--drain-timeout", f"{DRAIN_S}s"]
        self.schedulers = [Process(self, f"scheduler{i}", "scheduler", drain) for i in range(options.schedulers)]
        for one in self.schedulers:
            one.arguments = [*drain, *one.give_rpc_address(unix), "--http-listen", f"127.0.0.1:{one.http_port}",
                             "--remote-tokens-min", "1", "--stale-after", "2s", "--frozen-after", "3s"]
        to_schedulers = [word for one in self.schedulers for word in ("--scheduler", one.address)]
        self.workers = []
        for role, count in (("prefill", options.prefill), ("decode", options.decode)):
            for i in range(count):
                one = Process(self, f"{role}{i}", role, [])
                one.arguments = [
                    str(model), *drain, *one.give_rpc_address(unix), "--http-listen", f"127.0.0.1:{one.http_port}",
                    *to_schedulers, *TRANSPORTS[options.transport], "--threads", "1", "--kv-bytes", options.kv_bytes,
                    "--step-tokens", "32", "--sequences-max", "24", "--grace-time", "2s", "--ended-time", "5s",
                    "--stall-time", "2s", "--lease-time", "2s", "--pair-retry-time", "500ms", "--request-time", "60s"]
                self.workers.append(one)
        self.router = Process(self, "router", "router", [])
        self.router.arguments = [
            "--listen", f"127.0.0.1:{self.router.http_port}", *drain, *to_schedulers, "--grace-time", "2s",
            "--request-time", "60s", "--queue-time", "20s"]
        self.recorder = Process(self, "recorder", "decode", [])
        self.recorder.arguments = [
            str(model), *drain, "--listen", f"unix:{folder}/recorder.sock", "--threads", "1", "--http-listen",
            f"127.0.0.1:{self.recorder.http_port}"]
        self.all = [*self.schedulers, *self.workers, self.router]
        if options.certs:
            subprocess.run([BIN / "tandem", "certs", folder / "certs"], check=True, stdout=subprocess.DEVNULL)
            for one in self.all:
                one.arguments += ["--certs", str(folder / "certs" / one.role)]
        self.over = threading.Event()

    def say(self, text):
        with self.report_lock:
            print(f"{time.monotonic() - self.started:8.2f} {text}", flush=True)

    def violation(self, text):
        self.say(f"VIOLATION: {text}")
        self.violations.append(text)

    def start(self):
        for one in self.all:
            one.start()
        for one in self.all:
            one.wait_started()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        """Nobody dies but by our hand; blocks add up at all times."""
        while not self.over.wait(0.25):
            for one in self.all:
                self._watch_one(one)

    def _watch_one(self, one):
        if not one.lock.acquire(blocking=False):
            return
        try:
            if one.child.poll() is not None and not one.expect_death:
                self.violation(f"{one.name} ended by itself with status {one.child.returncode}")
                one.start()
                one.wait_answering()
            if one in self.workers:
                self.check_balance(one, one.metrics())
        finally:
            one.lock.release()

    def check_balance(self, one, values):
        blocks = {name.split('"')[1]: value for name, value in values.items() if name.startswith("tandem_kv_blocks{")}
        total = blocks.pop("total", 0)
        if total != sum(blocks.values()):
            self.violation(f"{one.name}: blocks do not add up: {total} {blocks}")

    def stop(self):
        self.over.set()
        started = [one for one in self.all if one.child]
        for one in started:
            one.expect_death = True
            one.child.send_signal(signal.SIGTERM)
        for one in started:
            try:
                status = one.child.wait(60)
            except subprocess.TimeoutExpired:
                self.violation(f"{one.name} does not end")
                one.child.kill()
                status = one.child.wait()
            else:
                if status != 0:
                    self.violation(f"{one.name} ended with status {status} at the end")
            found = [line for line in one.log_path.read_text(errors="replace").splitlines() if FAULTS.search(line)]
            if found:
                self.violation(f"{one.name}: {found[:5]}")

    # ---- at rest ----

    def wait_whole(self):
        """Every process is ready and knows the others."""
        def whole():
            values = self.router.metrics()
            return (values.get("tandem_router_workers_ready") == len(self.workers)
                    and values.get("tandem_router_schedulers_connected") == len(self.schedulers)
                    and all(one.get("/ready")[0] == 200 for one in self.all)
                    and all(one.metrics().get("tandem_scheduler_streams") == len(self.workers) + 1
                            for one in self.schedulers))

        wait_until(lambda: f"all are ready: router {self._fleet()}", whole, 60)

    def _fleet(self):
        values = self.router.metrics()
        ready = {one.name: one.get("/ready") for one in self.all}
        streams = {one.name: one.metrics().get("tandem_scheduler_streams") for one in self.schedulers}
        return {k: v for k, v in values.items() if k.startswith("tandem_router_") and "_total" not in k and
                "bucket" not in k}, ready, streams

    def busy(self):
        found = {}
        for one in [self.router, *self.workers]:
            values = one.metrics()
            for gauge in ROUTER_GAUGES if one is self.router else WORKER_GAUGES:
                if values.get(gauge, -1) != 0:
                    found[f"{one.name} {gauge}"] = values.get(gauge)
        for one in self.schedulers:
            if (guesses := one.metrics().get("tandem_scheduler_guesses", -1)) != 0:
                found[f"{one.name} guesses"] = guesses
        return found

    def telling(self):
        """Sums over what lives."""
        sums = {}
        for one in self.all:
            values = one.metrics()
            for name in TELLING:
                sums[name] = sums.get(name, 0) + int(values.get(name, 0))
        return {name.removeprefix("tandem_").removesuffix("_total"): value for name, value in sums.items() if value}

    def check_at_rest(self, context):
        end = time.monotonic() + 40
        while (busy := self.busy()) and time.monotonic() < end:
            time.sleep(0.1)
        quarantined = {name: value for name, value in busy.items() if "quarantined" in name}
        if len(quarantined) < len(busy):
            self.violation(f"{context}: not at rest: {busy}")
        elif quarantined:
            self.say(f"quarantined: {quarantined}")
        for one in self.all:
            values = one.metrics()
            wrong = {name: values[name] for name in NEVER if values.get(name, 0) != 0}
            if wrong:
                self.violation(f"{context}: {one.name}: {wrong}")
