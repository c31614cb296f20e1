"""A web service that answers only when it can read its rows, as the role and with the password that it is given."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psycopg

GIVEN = os.environ


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            with psycopg.connect(
                host=GIVEN["DB_HOST"],
                dbname=GIVEN["DB_NAME"],
                user=GIVEN["DB_USER"],
                password=GIVEN.get("DB_PASSWORD") or Path(GIVEN["DB_PASSWORD_FILE"]).read_text(encoding="utf-8"),
                connect_timeout=3,
            ) as connection:
                found = connection.execute(GIVEN["ROWS"].encode()).fetchone()
            status, answer = 200, {"rows": found[0] if found else None}
        except psycopg.Error as error:
            status, answer = 503, {"error": str(error)}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


HTTPServer(("", int(GIVEN["PORT"])), Handler).serve_forever()
