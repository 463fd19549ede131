#!/usr/bin/env python3
"""A guest book: GET / shows it, POST / writes a line, `ztm guestbook` does both. Who writes is known from the mesh."""
import html
import http.server
import os
import socket
import struct
import threading
import time
import urllib.parse

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


def write(user, text):
    line = " ".join(text.split())[:LIMIT]
    with writing, open(BOOK, "a", encoding="utf-8") as book:
        book.write(f"{time.strftime('%Y-%m-%d %H:%M')} {user}: {line}\n")


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
        if self.headers.get("Upgrade") == "ztm-command":
            return self.typed()
        if "text/html" not in self.headers.get("Accept", ""):
            return self.answer(200, "text/plain", entries())
        form = '<form method="post"><input name="text" maxlength="500" autofocus><button>Write</button></form>'
        self.answer(200, "text/html", f"<!doctype html><title>Guest book</title><h1>Guest book</h1>{form}<pre>{html.escape(entries())}</pre>")

    def typed(self):
        """`ztm guestbook [sign [TEXT...]]`: the input comes as it is, the output goes as frames."""
        args = urllib.parse.parse_qs(self.path.partition("?")[2], keep_blank_values=True).get("arg", [])
        self.close_connection = True
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "ztm-command")
        self.end_headers()
        if not args:
            self.frame(1, entries().encode())
        elif args[0] == "sign":
            text = " ".join(args[1:]) or self.rfile.read(4 * LIMIT).decode(errors="replace")
            write(self.headers["Ztm-Peer-User"], text)
        else:
            self.frame(2, b"usage: ztm guestbook [sign [TEXT...]]\n")
            return self.frame(3, bytes([2]))
        self.frame(3, bytes([0]))

    def frame(self, kind, data):
        """1 is output, 2 is for errors, 3 is the exit status and the last."""
        self.wfile.write(struct.pack(">BI", kind, len(data)) + data)

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > 12 * LIMIT:  # a form may need twelve for a character
            self.close_connection = True
            return self.answer(413, "text/plain", "too long\n")
        text = self.rfile.read(length).decode(errors="replace")
        form = self.headers.get("Content-Type") == "application/x-www-form-urlencoded"
        if form:
            text = urllib.parse.parse_qs(text).get("text", [""])[0]
        write(self.headers["Ztm-Peer-User"], text)  # set by the agent; nobody else can set it
        if not form:
            return self.answer(201, "text/plain", "written\n")
        self.send_response(303)  # the browser shows the book
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()


Server(("mesh", 0), Handler).serve_forever()
