"""Selection of an application's `TracerProvider`, which gets the spans instead of an endpoint."""

from __future__ import annotations

from typing import Any

from sidestream.errors import ConfigurationError


def provider_of(given: object, use_global: bool, endpoint: str | None) -> Any:
    """Provider that gets the spans; None for an endpoint.

    Raises:
        ConfigurationError: The provider is not an SDK provider, or more than one destination is given.
    """
    if given is None and not use_global:
        return None
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import get_tracer_provider

    if endpoint is not None or (given is not None and use_global):
        raise ConfigurationError("otlp: give one of endpoint, tracer_provider and use_global")
    provider = get_tracer_provider() if given is None else given
    if not isinstance(provider, TracerProvider):
        what = "tracer_provider" if given is not None else "OpenTelemetry's global provider"
        raise ConfigurationError(
            f"otlp: {what} is a {type(provider).__name__}, not an opentelemetry.sdk.trace.TracerProvider"
            + ("" if given is not None else ": set one with opentelemetry.trace.set_tracer_provider() before this")
        )
    return provider
