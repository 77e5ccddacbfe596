"""Model calls without a text answer: embeddings and images.

Patched during the import of pydantic-ai; modules that need the whole package are imported at the first call.
"""

from __future__ import annotations

from typing import Any

from sidestream.sources.sdk.calls import ModelCall, Observation, RequestFacts, around
from sidestream.sources.sdk.patching import Patches
from sidestream.sources.sdk.whole import one_item


def patch_results(cls: Any, name: str, patches: Patches, observation: Observation) -> None:
    """Observe the method `name` of `Embedder` or `ImageGenerator`, which calls a model and returns the result."""

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall | None:
        from .without_agent import Answers

        model = args[0].model
        named = getattr(model, "model_name", None) or str(model).partition(":")[2] or str(model)
        prompt = args[1] if len(args) > 1 else kwargs.get("inputs", kwargs.get("prompt"))
        asked = RequestFacts(model=named, provider=getattr(model, "system", None), prompt=prompt)
        return observation.begin(asked, Answers(observation.recorder.pricing), one_item, streaming=False)

    patches.wrap(cls, name, lambda original: around(original, observation, begin, _answered, suppress_inner=True))


def _answered(call: ModelCall, answer: Any, kwargs: dict[str, Any]) -> Any:
    call.answered(answer)
    return answer
