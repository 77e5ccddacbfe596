"""Public types of pydantic-ai in the signatures of Sidestream."""

from __future__ import annotations

from pydantic_ai import AgentRunResult, ModelMessage, UserContent
from pydantic_ai.agent import AbstractAgent

__all__ = ["AbstractAgent", "AgentRunResult", "ModelMessage", "UserContent"]
