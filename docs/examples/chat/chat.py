#!/usr/bin/env python3
"""A chat with a page: GET / is the page, POST /say says something, GET /events streams what is said."""
import collections
import http.server
import json
import os
import queue
import socket
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 1000  # characters of a message
last = collections.deque(maxlen=100)
listeners = set()
lock = threading.Lock()


class Server(http.server.ThreadingHTTPServer):
    """HTTP on the socket that the agent hands over as descriptor 3; it listens already."""

    address_family = socket.AF_UNIX
    daemon_threads = True

    def server_bind(self):
        self.socket = socket.socket(fileno=3)

    def server_activate(self):
        pass

    def get_request(self):
        return self.socket.accept()[0], ("mesh", 0)


def say(user, text):
    message = json.dumps({"user": user, "text": text})
    with lock:
        last.append(message)
        for q in list(listeners):
            try:
                q.put_nowait(message)
            except queue.Full:  # it does not read
                listeners.discard(q)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/events":
            return self.events()
        if self.path == "/last":
            with lock:
                return self.answer(200, "application/json", ("[" + ",".join(last) + "]\n").encode())
        with open(os.path.join(HERE, "page.html"), "rb") as page:
            self.answer(200, "text/html; charset=utf-8", page.read())

    def events(self):
        q = queue.Queue(100)
        with lock:
            listeners.add(q)
            for message in last:
                q.put_nowait(message)
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while q in listeners:
                try:
                    self.wfile.write(f"data: {q.get(timeout=20)}\n\n".encode())
                except queue.Empty:
                    self.wfile.write(b": still here\n\n")
        except OSError:  # the browser has gone
            pass
        finally:
            with lock:
                listeners.discard(q)

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/say" or length > 4 * LIMIT:
            self.close_connection = True
            return self.answer(400, "text/plain", b"want POST /say with a short text\n")
        # Who says it is known from the mesh: the agent has set the field.
        say(self.headers["Ztm-Peer-User"], self.rfile.read(length).decode(errors="replace")[:LIMIT])
        self.answer(200, "text/plain", b"said\n")


Server(("mesh", 0), Handler).serve_forever()
