"""Trial of an archive: installed into an empty environment, and used from there as its users do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.support.paths import ROOT

AGENT = """
from pydantic_ai import Agent

from sidestream import Sidecar

with Sidecar("jsonl:runs/") as sidecar:
    print(sidecar.observe(Agent("test", name="support")).run_sync("Hello").output)
"""


def try_archive(uv: str, archive: Path, folder: Path) -> Path:
    """Installs `archive` with the extras of demo and pages, and uses it in `folder`. Returns the environment."""
    environment = folder / "venv"
    programs = environment / ("Scripts" if sys.platform == "win32" else "bin")
    python = str(programs / ("python.exe" if sys.platform == "win32" else "python"))
    wanted = ["-c", str(ROOT / "requirements-dev.lock"), f"sidestream[demo,review] @ {archive.as_uri()}"]
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(environment)], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--system-certs", "--python", python, *wanted], check=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SIDESTREAM_"))}
    env["PYDANTIC_AI_NO_BANNER"] = "1"

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(f"{archive.name}: {' '.join(command)} ended with {done.returncode}\n{done.stderr}")
        return done.stdout

    sidestream = str(programs / "sidestream")
    (folder / "agent.py").write_text(AGENT, "utf-8")
    run(python, "agent.py")
    [logged] = json.loads(run(sidestream, "runs", "runs/", "--json"))
    if logged["agent_name"] != "support" or logged["outcome"] != "completed":
        raise SystemExit(f"{archive.name}: its own log says {logged}")
    run(sidestream, "demo", "--fast", "--out", "demo-runs/")
    if not json.loads(run(sidestream, "runs", "demo-runs/", "--json")):
        raise SystemExit(f"{archive.name}: the demo has logged nothing")
    run(sidestream, "dashboards", "export", "--out", "boards/")
    if not list((folder / "boards").rglob("*.json")):
        raise SystemExit(f"{archive.name}: no boards were exported")
    serve(sidestream, folder, env)
    return environment


def serve(sidestream: str, folder: Path, env: dict[str, str]) -> None:
    """The pages of the log, over HTTP."""
    command = [sidestream, "serve", "runs/", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            said = b""
            while (address := re.search(rb"http://127\.0\.0\.1:\d+\S*", said)) is None:
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"sidestream serve ended: {said.decode()}")
                said += line
            with urllib.request.urlopen(address[0].decode(), timeout=60) as answer:
                if b"support" not in answer.read():
                    raise SystemExit("the page of runs does not show the run")
        finally:
            process.terminate()
