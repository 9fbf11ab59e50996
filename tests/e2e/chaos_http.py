"""A small HTTP client that can do what well-behaved ones cannot: read slowly, leave at any byte, and tell a clean end
from a cut.

An exchange ends in one of these ways, and no exception leaves this file:
  whole    the answer has ended as its framing says
  cut      the connection ended before that
  refused  nobody listens
  left     we left, as was planned
  hung     nothing of that within the deadline
"""
import json
import socket
import struct
import time


class Cut(Exception):
    pass


class Hung(Exception):
    pass


class Left(Exception):
    pass


class Manners:
    """How a client behaves: leave_after_s (None: stays), leave_by (close, reset or half), slow."""

    def __init__(self, leave_after_s=None, leave_by="close", slow=False):
        self.leave_after_s, self.leave_by, self.slow = leave_after_s, leave_by, slow


class Connection:
    """One TCP connection to an OpenAI port; may carry several exchanges."""

    def __init__(self, address, manners, deadline):
        self.opened = time.monotonic()
        self.manners, self.deadline, self.leave_at = manners, deadline, None
        self.buffer = bytearray()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if manners.slow:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.socket.settimeout(10)
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise

    def close(self):
        self.socket.close()

    def leave(self):
        if self.manners.leave_by == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif self.manners.leave_by == "half":
            self.socket.shutdown(socket.SHUT_WR)
            time.sleep(0.05)
        self.socket.close()

    def _fill(self):
        now = time.monotonic()
        end = min(self.deadline, self.leave_at or self.deadline)
        if now >= end:
            raise Hung if end == self.deadline else Left
        if self.manners.slow:
            time.sleep(0.005)
        self.socket.settimeout(end - now)
        try:
            data = self.socket.recv(512 if self.manners.slow else 65536)
        except TimeoutError:
            return
        except OSError as error:
            raise Cut(str(error)) from error
        if not data:
            raise Cut("end of connection")
        self.buffer += data

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._fill()
        line, _, rest = bytes(self.buffer).partition(b"\r\n")
        self.buffer = bytearray(rest)
        return line.decode()

    def _exactly(self, count):
        while len(self.buffer) < count:
            self._fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def _head(self):
        status = int(self._line().split()[1])
        fields = {}
        while line := self._line():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return status, fields

    def _body(self, fields, take):
        """Hands the body to take(), piece by piece."""
        if "content-length" in fields:
            take(self._exactly(int(fields["content-length"])))
            return
        while size := int(self._line(), 16):
            take(self._exactly(size))
            self._line()
        self._line()

    def exchange(self, path, body, answer):
        """Fills the answer; sets answer.ending."""
        data = json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1\r\nHost: chaos\r\nContent-Type: application/json\r\nx-tandem-trace: 1\r\n"
                f"Content-Length: {len(data)}\r\n\r\n").encode()
        if self.manners.leave_after_s is not None:
            self.leave_at = time.monotonic() + self.manners.leave_after_s
        try:
            self.socket.sendall(head + data)
            answer.status, answer.fields = self._head()
            self._body(answer.fields, answer.take)
            answer.ending = "whole"
        except Cut as error:
            answer.ending, answer.note = "cut", str(error)
        except Hung:
            answer.ending = "hung"
        except Left:
            answer.ending = "left"
            self.leave()
        except OSError as error:
            answer.ending, answer.note = "cut", str(error)


class Answer:
    """What came of one request. Streams are read event by event, so that what came before a cut is known."""

    def __init__(self, is_chat, is_stream):
        self.is_chat, self.is_stream = is_chat, is_stream
        self.ending, self.note, self.status, self.fields = None, "", None, {}
        self.raw = b""
        self.text, self.finish, self.usage, self.trace, self.error = "", None, None, None, None
        self.done, self.late = False, False  # [DONE] was seen; something came behind an end

    def take(self, data):
        self.raw += data
        if self.status != 200 or not self.is_stream:
            return
        while b"\n\n" in self.raw:
            event, _, self.raw = self.raw.partition(b"\n\n")
            if event.startswith(b"data: "):
                self._event(event[6:])

    def _event(self, data):
        self.late |= self.done or self.error is not None
        if data == b"[DONE]":
            self.done = True
            return
        self._object(json.loads(data))

    def _object(self, value):
        self.error = value.get("error", self.error)
        for choice in value.get("choices", []):
            if self.is_chat:
                self.text += choice["delta" if self.is_stream else "message"].get("content") or ""
            else:
                self.text += choice["text"]
            self.finish = choice["finish_reason"] or self.finish
        self.usage = value.get("usage") or self.usage
        self.trace = value.get("tandem") or self.trace

    def settle(self):
        """To be called once when the exchange is over."""
        if self.ending == "whole" and (self.status != 200 or not self.is_stream):
            self._object(json.loads(self.raw))

    def key(self):
        usage = self.usage or {}
        return (self.text, self.finish, usage.get("prompt_tokens"), usage.get("completion_tokens"))

    def __repr__(self):
        return (f"ending {self.ending} ({self.note}) status {self.status} done {self.done} error {self.error} "
                f"finish {self.finish} usage {self.usage} text {self.text!r}")
