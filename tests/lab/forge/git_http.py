"""git's own smart HTTP server behind basic authentication: https://git-scm.com/docs/git-http-backend"""

from __future__ import annotations

import base64
import hmac
import os
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def git_handler(root: Path, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            _, _, credentials = (self.headers.get("Authorization") or "").partition(" ")
            password = base64.b64decode(credentials or b"").decode("utf-8", "replace").partition(":")[2]
            if not hmac.compare_digest(password, token):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="stand-in"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            parts = urlsplit(self.path)
            body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(
                int(self.headers.get("Content-Length") or 0)
            )  # fmt: skip
            env = {
                **os.environ, "GIT_PROJECT_ROOT": str(root / "git"), "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "lab",
                "PATH_INFO": parts.path, "QUERY_STRING": parts.query, "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type") or "", "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            }  # fmt: skip
            done = subprocess.run(["git", "http-backend"], input=body, env=env, stdout=subprocess.PIPE, check=False)
            head, _, data = done.stdout.partition(b"\r\n\r\n")
            lines = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
            status = next((int(value.split()[0]) for name, value in lines if name == "Status"), 200)
            self.send_response(status)
            for name, value in lines:
                if name != "Status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _chunks(self) -> bytes:
            found = b""
            while size := int(self.rfile.readline().strip(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        do_GET = do_POST = _serve

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    return Handler
