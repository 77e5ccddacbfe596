"""Start-up hook of a program under `sidestream run`: Python imports the first `sitecustomize` on its path.

The hook restores the environment and the path, waits for the import of pydantic-ai or another supported SDK, at which
Sidestream starts, and then runs the `sitecustomize` that it shadows. A program that imports none of the SDKs pays for
this file alone; hence the file imports only modules that Python has already loaded.

A child process that `multiprocessing` spawns is observed like a forked one: it runs this file too, with `settings`
as a global (see `_observe_children`).
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
SPAWNING = (
    "multiprocessing.popen_spawn_posix",
    "multiprocessing.popen_spawn_win32",
    "multiprocessing.popen_forkserver",
)
SDKS = ("pydantic_ai", "openai", "anthropic", "groq", "google.genai", "mistralai", "litellm")


class Listener:
    """Import hook, first in `sys.meta_path`: calls a function when a given module is imported; finds none itself."""

    def __init__(self, settings: str) -> None:
        self.settings = settings
        self.calls = dict.fromkeys(SPAWNING, self._observe_children)
        names = SDKS[:1] if '"sdk":["none"]' in settings else SDKS
        self.calls.update(dict.fromkeys(names, self._start))

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        call = self.calls.pop(name, None)
        if call is not None:
            present = list(sys.meta_path)
            try:
                call()
            except Exception as error:
                if sys.stderr is not None:
                    reason = " ".join(f"{type(error).__name__}: {error}".split())
                    sys.stderr.write(f"sidestream: not observing: {reason} ({sys.executable})\n")
            # The import system has already passed the finders that `call` put in front, so query them here.
            for finder in [each for each in sys.meta_path if each not in present]:
                found = finder.find_spec(name, path, target)
                if found is not None:
                    return found
        return None

    def _start(self) -> None:
        for name in SDKS:
            self.calls.pop(name, None)
        from sidestream.autostart import start

        start(self.settings)

    def _observe_children(self) -> None:
        import runpy
        from multiprocessing import spawn

        for name in SPAWNING:
            self.calls.pop(name, None)
        original = spawn.get_preparation_data

        class RunThisFile:
            """Object whose unpickling in the child runs this file there, before any code of the program."""

            def __reduce__(_) -> tuple[object, ...]:
                return runpy.run_path, (os.path.join(HERE, "sitecustomize.py"), {"settings": self.settings})

        def get_preparation_data(name: str) -> dict[str, object]:
            data: dict[str, object] = original(name)
            data["sidestream"] = RunThisFile()
            return data

        spawn.get_preparation_data = get_preparation_data


def restore() -> "str | None":
    """Remove this folder and the settings from the environment, unless sub-processes are to be observed too."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != HERE]
    sys.path_importer_cache.pop(HERE, None)
    if os.environ.get("SIDESTREAM_SUBPROCESSES") == "1":
        return os.environ.get("SIDESTREAM_RUN")
    rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry != HERE]
    if any(rest):
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)
    else:
        os.environ.pop("PYTHONPATH", None)
    return os.environ.pop("SIDESTREAM_RUN", None)


def listen(settings: str) -> None:
    listener = Listener(settings)
    sys.meta_path.insert(0, listener)
    for name in SDKS:
        if name in sys.modules:
            listener.find_spec(name)


if __name__ == "sitecustomize":
    given = restore()
    if given is not None:
        listen(given)
    # Import the shadowed `sitecustomize`. Without one, this raises the ImportError that Python expects here.
    del sys.modules["sitecustomize"]
    __import__("sitecustomize")
else:
    listen(globals()["settings"])
