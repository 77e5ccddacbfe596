"""ClickHouse's engine (chdb) behind the part of its HTTP interface that the official client needs.

    with clickhouse() as server:
        client = server.client()

The engine runs in a separate process, one query at a time, until the end of the `with` block.
"""

from __future__ import annotations

import gzip
import http.server
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from tests.support.missing import is_missing
from tests.support.paths import ROOT


class ClickHouseServer:
    """Running engine with an HTTP interface, in process `pid`."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def address(self, database: str = "default") -> str:
        return f"clickhouse://127.0.0.1:{self.port}/{database}"

    def client(self) -> Any:
        import clickhouse_connect

        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, autogenerate_session_id=False)


@contextmanager
def clickhouse() -> Iterator[ClickHouseServer]:
    """Empty ClickHouse on the loopback interface. Skips the test if there is no engine (on Windows)."""
    if find_spec("chdb") is None:  # an import here would block SIGPIPE in this process and its children
        is_missing("chdb, ClickHouse's engine, is not installed")
    command = [sys.executable, "-m", "tests.support.clickhouse_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield ClickHouseServer(int(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()  # the process ends when its stdin is closed
            process.wait(30)


# --- in the process of the engine ----------------------------------------------------------------------------------


class _Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body of an answer waits 40 ms for the acknowledgement of its head
    engine: Any
    lock = threading.Lock()

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("transfer-encoding") or ""):
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            data = b"".join(pieces)
        else:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
        return gzip.decompress(data) if self.headers.get("content-encoding") == "gzip" else data

    def _answer(self, body: bytes) -> None:
        asked = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        sql = asked.get("query", [""])[0]
        form = asked.get("default_format", ["TabSeparated"])[0]
        status, out = 200, b""
        insert = re.match(r"(INSERT INTO .*?)\s+FORMAT\s+(\w+)\s*(.*)", sql or "", re.IGNORECASE | re.DOTALL)
        if not insert and not sql:
            text = body[:2000].decode("utf-8", "replace")
            if head := re.match(r"(INSERT INTO .*?)\s+FORMAT\s+(\w+)\s*?\n", text, re.IGNORECASE | re.DOTALL):
                insert, body = head, body[len(head[0].encode()) :]
        try:
            with self.lock:
                if insert:
                    self._insert(insert[1], insert[2], body)
                else:
                    statement = (sql or body.decode()).strip()
                    if named := re.search(r"\bFORMAT\s+(\w+)\s*;?\s*$", statement, re.IGNORECASE):
                        form, statement = named[1], statement[: named.start()]
                    out = self.engine.query(statement, form).bytes()
        except Exception as error:
            status, out = 500, str(error).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(out)))
        self.send_header("X-ClickHouse-Format", form)
        if status != 200 and (code := re.search(rb"Code: (\d+)", out)):
            self.send_header("X-ClickHouse-Exception-Code", code[1].decode())
        self.end_headers()
        self.wfile.write(out)

    def _insert(self, into: str, form: str, body: bytes) -> None:
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(body)
        try:
            table = into.split("(")[0].removeprefix("INSERT INTO").strip()
            columns = re.search(r"\((.*)\)", into, re.DOTALL)
            chosen = columns[1] if columns else "*"
            structure = ", ".join(
                f"{name} {kind}"
                for name, kind, *_ in (
                    row.split("\t")
                    for row in self.engine.query(f"DESCRIBE TABLE {table}", "TSVRaw").bytes().decode().splitlines()
                )
            ).replace("'", "\\'")
            self.engine.query(f"{into} SELECT {chosen} FROM file('{file.name}', {form}, '{structure}')")
        finally:
            os.unlink(file.name)

    def log_message(self, *args: object) -> None:
        return


def _serve() -> None:
    from chdb import session

    with tempfile.TemporaryDirectory() as folder:
        _Front.engine = session.Session(folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Front)
        print(server.server_address[1], flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()
        _Front.engine.close()


if __name__ == "__main__":
    _serve()
