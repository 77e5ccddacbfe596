"""The chat service with several workers: `gunicorn -c gunicorn_conf.py chat_service:app`.

Each worker writes files of its own into `runs/`; nothing has to be shared, preloaded or closed by hand. A worker that
is told to stop finishes its streams, and their runs are in the log with their true outcome.
"""

import os

worker_class = "uvicorn.workers.UvicornWorker"
workers = int(os.environ.get("WORKERS", "2"))
bind = os.environ.get("BIND", "127.0.0.1:8000")
graceful_timeout = 30
