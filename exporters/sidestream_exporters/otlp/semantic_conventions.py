"""Names of spans and attributes in one table; another version of the conventions is another table.

`GEN_AI` follows OpenTelemetry's GenAI conventions as last released (core semantic conventions 1.41), with additions of
its Python GenAI library. The conventions are experimental and in the course of renaming; see
https://github.com/open-telemetry/semantic-conventions.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticConventions:
    """Names of one version of the conventions. Attributes without a standard name are `sidestream.*`."""

    operation: str = "gen_ai.operation.name"
    invoke_agent: str = "invoke_agent"
    chat: str = "chat"
    execute_tool: str = "execute_tool"
    provider: str = "gen_ai.provider.name"
    conversation: str = "gen_ai.conversation.id"
    agent: str = "gen_ai.agent.name"
    agent_description: str = "gen_ai.agent.description"
    request_model: str = "gen_ai.request.model"
    request_stream: str = "gen_ai.request.stream"
    stop_sequences: str = "gen_ai.request.stop_sequences"
    response_id: str = "gen_ai.response.id"
    response_model: str = "gen_ai.response.model"
    finish_reasons: str = "gen_ai.response.finish_reasons"
    first_chunk: str = "gen_ai.response.time_to_first_chunk"
    tool: str = "gen_ai.tool.name"
    tool_call: str = "gen_ai.tool.call.id"
    tool_type: str = "gen_ai.tool.type"
    tool_description: str = "gen_ai.tool.description"
    function_tool: str = "function"
    provider_tool: str = "extension"
    """Tool type of tools that the provider executes on its own servers."""
    error_type: str = "error.type"
    server_address: str = "server.address"
    server_port: str = "server.port"
    output_type: str = "gen_ai.output.type"
    output_types: dict[str, str] = field(
        default_factory=lambda: {"text": "text", "native": "json", "prompted": "json", "image": "image"}
    )
    """Requested output type, by pydantic-ai's output mode; absent for the mode `tool`."""
    instructions: str = "gen_ai.system_instructions"
    tool_definitions: str = "gen_ai.tool.definitions"
    input: str = "gen_ai.input.messages"
    output: str = "gen_ai.output.messages"
    tool_arguments: str = "gen_ai.tool.call.arguments"
    tool_result: str = "gen_ai.tool.call.result"
    details: str = "gen_ai.client.inference.operation.details"
    """Span event that holds content under the placements `event` and `both`."""
    evaluation_result: str = "gen_ai.evaluation.result"
    """Name of the log record of a score."""
    evaluation: str = "gen_ai.evaluation.name"
    evaluation_value: str = "gen_ai.evaluation.score.value"
    evaluation_label: str = "gen_ai.evaluation.score.label"
    evaluation_explanation: str = "gen_ai.evaluation.explanation"
    settings: dict[str, str] = field(
        default_factory=lambda: {
            name: f"gen_ai.request.{name}"
            for name in (
                "max_tokens",
                "temperature",
                "top_p",
                "top_k",
                "presence_penalty",
                "frequency_penalty",
                "seed",
            )
        }
    )
    usage: dict[str, str] = field(
        default_factory=lambda: {
            "input_tokens": "gen_ai.usage.input_tokens",
            "output_tokens": "gen_ai.usage.output_tokens",
            "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
            "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
            "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
            "cache_write_1h_tokens": "sidestream.usage.cache_write_1h_tokens",
            "input_audio_tokens": "gen_ai.usage.audio.input_tokens",
            "cache_audio_read_tokens": "sidestream.usage.cache_audio_read_tokens",
            "output_audio_tokens": "gen_ai.usage.audio.output_tokens",
        }
    )
    counts: dict[str, str] = field(
        default_factory=lambda: {
            "input_image_tokens": "gen_ai.usage.image.input_tokens",
            "output_image_tokens": "gen_ai.usage.image.output_tokens",
            "input_text_tokens": "gen_ai.usage.text.input_tokens",
            "output_text_tokens": "gen_ai.usage.text.output_tokens",
        }
    )
    """Names of provider-specific counts; other counts are `sidestream.usage.*`."""


GEN_AI = SemanticConventions()
SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
"""Schema URL of the conventions' version, sent with the spans."""
