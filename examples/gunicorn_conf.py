"""Gunicorn configuration of the chat service: `gunicorn -c gunicorn_conf.py chat_service:app`.

Each worker writes its own files in `runs/`; no sharing, preloading or explicit closing is needed. A worker that gets a
stop signal finishes its streams, and the log has the outcome of each run.
"""

import os

worker_class = "uvicorn.workers.UvicornWorker"
workers = int(os.environ.get("WORKERS", "2"))
bind = os.environ.get("BIND", "127.0.0.1:8000")
graceful_timeout = 30
