"""A program in a terminal of its own: what it writes there is read, and keys are typed."""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import threading

from cluster import DEADLINE_S, wait_until


class Terminal:
    """Use it as a context: what still runs at the end is ended, by its number."""

    def __init__(self, command, environment=None):
        self.main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        self.side = side  # stays open, so that what was written can be read after the end
        self.text, self.changed = "", threading.Condition()
        environment = {**os.environ, "TERM": "xterm", "OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", **(environment or {})}
        self.settings = termios.tcgetattr(side)
        self.process = subprocess.Popen([str(word) for word in command], stdin=side, stdout=side, stderr=side,
                                        env=environment, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.closing = False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        raw = b""
        while not self.closing:
            if not select.select([self.main], [], [], 0.1)[0]:
                continue
            raw += os.read(self.main, 65536)
            with self.changed:
                self.text = raw.decode(errors="replace")
                self.changed.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.closing = True
        self.reader.join()
        os.close(self.main)
        os.close(self.side)

    def type(self, text):
        """Remembers where the text stood: wait_for looks behind it."""
        self.mark = len(self.text)
        os.write(self.main, text.encode())

    mark = 0

    def wait_for(self, pattern):
        """Until the pattern stands behind what was typed last; its match."""
        return wait_until(lambda: f"{pattern!r} is written; it says {self.text[self.mark:]!r}",
                          lambda: re.search(pattern, self.text[self.mark:]))

    def wait_end(self):
        """The exit status; the terminal is as it was before."""
        status = self.process.wait(DEADLINE_S)
        after = termios.tcgetattr(self.side)
        # PENDIN is the kernel's own note that type-ahead waits, no setting
        after[3] &= ~termios.PENDIN
        self.settings[3] &= ~termios.PENDIN
        assert after == self.settings, "the terminal was not put back"
        return status
