"""An application under systemd: orders in PostgreSQL, by psql over the local socket."""

from __future__ import annotations

import json
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def sql(text: str, **values: object) -> str:
    words = [word for name, value in values.items() for word in ("-v", f"{name}={value}")]
    argv = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", "ledger", *words]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            return self.answer("SELECT json_build_object('orders', count(*)) FROM orders")
        return self.answer("SELECT to_jsonb(o) FROM orders o WHERE id = :'id'::int", id=self.path.rpartition("/")[2])

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = "INSERT INTO orders (customer) VALUES (:'it') RETURNING json_build_object('id', id)"
        return self.answer(question, it=order["customer"])

    def do_DELETE(self) -> None:
        question = "DELETE FROM orders WHERE id = :'id'::int RETURNING json_build_object('id', id)"
        return self.answer(question, id=self.path.rpartition("/")[2])

    def answer(self, question: str, **values: object) -> None:
        try:
            said = sql(question, **values)
        except subprocess.SubprocessError:
            said, status = "{}", 503
        else:
            status = 200 if said else 404
        body = (said or "{}").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
