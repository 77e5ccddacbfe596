"""Public names for writing an adapter of `Sidecar.tap`: `Adapter`, `StreamRecorder`, `available_adapters`.

def my_adapter(item: dict[str, str], record: StreamRecorder) -> None:
    if item["type"] == "token":
        record.text(item["text"])

sidecar.tap(stream, adapter=my_adapter)
"""

from .sources.adapters.protocol import Adapter
from .sources.adapters.registry import available_adapters
from .sources.tap.recorder import StreamRecorder

__all__ = ["Adapter", "StreamRecorder", "available_adapters"]
