"""Tests of an agent's runs with the fixture `sidestream_capture`. Run with `pytest test_with_pytest.py`."""

from pydantic_ai import Agent

from sidestream.testing.pytest_plugin import Capture

agent = Agent("test", name="support")


@agent.tool_plain
def refund(order: str) -> str:
    """Refund an order."""
    return f"{order} refunded"


def test_an_order_is_refunded_once(sidestream_capture: Capture) -> None:
    sidestream_capture.observe(agent).run_sync("Refund order 7")
    assert [event.data.tool_name for event in sidestream_capture.of("tool_end")] == ["refund"]


def test_an_answer_takes_two_requests(sidestream_capture: Capture) -> None:
    sidestream_capture.observe(agent).run_sync("Refund order 7")
    [end] = sidestream_capture.of("agent_end")
    assert (end.data.outcome, end.data.total_iterations) == ("completed", 2)
