#!/usr/bin/env python3
"""A guest book: GET / shows it, POST / writes a line. Who writes is known from the mesh."""
import html
import http.server
import os
import socket
import threading
import time

BOOK = os.path.join(os.environ["ZTM_DATA"], "book.txt")
LIMIT = 500  # characters of an entry
writing = threading.Lock()


class Server(http.server.ThreadingHTTPServer):
    """HTTP on the socket that the agent hands over as descriptor 3; it listens already."""

    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket = socket.socket(fileno=3)

    def server_activate(self):
        pass

    def get_request(self):
        return self.socket.accept()[0], ("mesh", 0)


def entries():
    try:
        with open(BOOK, encoding="utf-8") as book:
            return book.read()
    except FileNotFoundError:
        return ""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind + "; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if "text/html" not in self.headers.get("Accept", ""):
            return self.answer(200, "text/plain", entries())
        form = '<form method="post"><input name="text" maxlength="500" autofocus><button>Write</button></form>'
        self.answer(200, "text/html", f"<!doctype html><title>Guest book</title><h1>Guest book</h1>{form}<pre>{html.escape(entries())}</pre>")

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > 4 * LIMIT:
            self.close_connection = True
            return self.answer(413, "text/plain", "too long\n")
        text = self.rfile.read(length).decode(errors="replace").removeprefix("text=")
        line = " ".join(text.split())[:LIMIT]
        user = self.headers["Ztm-Peer-User"]  # set by the agent; nobody else can set it
        with writing, open(BOOK, "a", encoding="utf-8") as book:
            book.write(f"{time.strftime('%Y-%m-%d %H:%M')} {user}: {line}\n")
        self.answer(201, "text/plain", "written\n")


Server(("mesh", 0), Handler).serve_forever()
