"""Packed weights that workers share on a host: made once, shown and removed by `tandem cache`; and loading that is
interrupted."""
import fcntl
import os
import signal
import subprocess

import pytest

from cluster import BIN, wait_until


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "weights"


def cache_command(cache, *words):
    return subprocess.run([BIN / "tandem", "cache", *words, "--weights-cache", cache], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)


class Worker:
    """A decode worker of its own, with its log."""

    def __init__(self, model, cache, folder):
        self.log_path = folder / "worker.log"
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [BIN / "tandem-decode", model.path, "--weights-cache", cache, "--kv-transport", "map",
                 "--listen", f"unix:{folder}/rpc", "--http-listen", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(folder)})

    def log(self):
        return self.log_path.read_text()

    def wait_line(self, text):
        wait_until(f"'{text}' in the worker's log", lambda: text in self.log() or self.process.poll() is not None)
        assert text in self.log(), self.log()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def test_two_workers_share_one_file_that_can_be_shown_and_removed(demo, cache, tmp_path):
    with Worker(demo, cache, tmp_path) as first:
        first.wait_line("listening rpc")
        inode = next(cache.iterdir()).stat().st_ino
        second_folder = tmp_path / "2"
        second_folder.mkdir()
        with Worker(demo, cache, second_folder) as second:
            second.wait_line("listening rpc")
            assert "packed weights from the cache" in second.log()
        files = list(cache.iterdir())
        assert len(files) == 1 and files[0].stat().st_ino == inode
        digest = files[0].name.split("-")[0]

        shown = cache_command(cache)
        assert shown.returncode == 0 and digest[:12] in shown.stdout and "MB" in shown.stdout
        assert cache_command(cache, "remove", "ffffffff").returncode == 1
        assert cache_command(cache, "remove", "ff").returncode == 2
        assert cache_command(cache, "remove", digest[:8]).returncode == 0
        assert list(cache.iterdir()) == []
        assert first.process.poll() is None  # it keeps what it has mapped
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(60) == 0
    assert "nothing in" in cache_command(cache, "list").stdout


def test_a_signal_ends_a_worker_that_loads(demo, cache, tmp_path):
    with Worker(demo, cache, tmp_path) as maker:
        maker.wait_line("listening rpc")
    entry = next(cache.iterdir())
    with open(f"{entry}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # somebody makes it, for ever
        entry.unlink()
        with Worker(demo, cache, tmp_path) as waiting:
            waiting.wait_line("waiting for another process")
            waiting.process.send_signal(signal.SIGTERM)
            assert waiting.process.wait(60) == 0
            assert "asked to stop while loading" in waiting.log()


def test_clearing_leaves_what_is_being_made_and_nothing_else(cache):
    cache.mkdir()
    entries = [cache / f"{digit * 32}-1.weights" for digit in "abc"]
    for age, entry in enumerate(entries):
        entry.write_bytes(b"half of something")
        os.utime(entry, (1000000 - age, 1000000 - age))
    with open(f"{entries[0]}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cleared = cache_command(cache, "clear")
        assert cleared.returncode == 1 and "another process is making" in cleared.stderr
        assert [path.name for path in cache.glob("*.weights")] == [entries[0].name]
    assert cache_command(cache, "clear").returncode == 0
    assert list(cache.iterdir()) == []


def test_none_is_no_cache(demo, tmp_path):
    with Worker(demo, "none", tmp_path) as worker:
        worker.wait_line("listening rpc")
        assert "packed weights" not in worker.log()
