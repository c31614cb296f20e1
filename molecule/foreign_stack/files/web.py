"""A web service that answers only when it can read its rows, as its own role, with its own password."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

ROWS = 'SELECT count(*) FROM "Schéma ""1"" $$"."Tabelle; --"'


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            with psycopg.connect(
                host="datenbank",
                dbname=os.environ["DB_NAME"],
                user=os.environ["DB_USER"],
                password=os.environ["DB_PASSWORD"],
                connect_timeout=3,
            ) as connection:
                found = connection.execute(ROWS).fetchone()
            status, answer = 200, {"rows": found[0] if found else None}
        except psycopg.Error as error:
            status, answer = 503, {"error": str(error)}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


HTTPServer(("", 8001), Handler).serve_forever()
