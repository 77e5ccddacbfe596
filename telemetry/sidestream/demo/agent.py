"""Application that the demo observes: customer support of a small bicycle shop.

The code is ordinary pydantic-ai code, without any reference to Sidestream.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models import Model


@dataclass
class Shop:
    """Data that the tools look up."""

    orders: dict[str, str] = field(
        default_factory=lambda: {
            "4711": "pannier bag, 89.00 EUR, shipped on Monday by DHL, arrives on Thursday",
            "4712": "touring saddle, 120.00 EUR, delivered last week",
        }
    )
    policies: dict[str, str] = field(
        default_factory=lambda: {
            "returns": "Unused goods can be returned within 30 days; we send a label.",
            "shipping": "Free above 50 EUR, otherwise 4.90 EUR; two to four working days.",
        }
    )


def support_agents(model: Model) -> tuple[Agent[Shop, str], Agent[Shop, str]]:
    """Support agent, and the billing agent that it calls as a tool, both with `model`."""
    billing = Agent(
        model,
        name="billing",
        deps_type=Shop,
        instructions="You are the billing desk of a bicycle shop. Say what is refunded, when, and how. One sentence.",
    )
    support = Agent(
        model,
        name="support",
        deps_type=Shop,
        instructions=(
            "You are the customer support of Pedal & Post, a small bicycle shop. Look orders and policies up before "
            "you answer, leave questions of money to the billing desk, and be brief and kind."
        ),
    )

    @support.tool
    def look_up_order(ctx: RunContext[Shop], order: str) -> str:
        """What is in an order and where it is."""
        if not order.isdigit():
            raise ModelRetry("An order number is digits only, without any prefix.")
        return ctx.deps.orders.get(order, "There is no such order.")

    @support.tool
    def read_policy(ctx: RunContext[Shop], topic: str) -> str:
        """The shop's policy on `returns` or `shipping`."""
        return ctx.deps.policies.get(topic, f"There are policies on: {', '.join(ctx.deps.policies)}.")

    @support.tool
    async def ask_billing(ctx: RunContext[Shop], question: str) -> str:
        """Ask the billing desk."""
        result = await billing.run(question, deps=ctx.deps, usage=ctx.usage)
        return result.output

    return support, billing
