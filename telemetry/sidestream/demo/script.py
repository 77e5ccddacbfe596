"""Script of the demo's model: replies by the user's question and the number of answers since."""

from __future__ import annotations

from collections.abc import Sequence

from .reply import Message, Reply

REPLIES: dict[str, tuple[Reply, ...]] = {
    "Where is my order 4711": (
        Reply(
            calls=[("look_up_order", {"order": "4711"}), ("read_policy", {"topic": "returns"})],
            reasoning_tokens=64,
            thinking=0.9,
        ),
        Reply(calls=[("ask_billing", {"question": "How is order 4711, 89.00 EUR, refunded if it is returned?"})]),
        Reply(
            text="Your pannier bag left us on Monday and arrives on Thursday. Should it not fit, you have 30 days to "
            "send it back with our label, and the 89.00 EUR are on your card three days after it is here.",
            reasoning_tokens=128,
        ),
    ),
    "How is order 4711": (
        Reply(text="89.00 EUR go back to the card that paid, within three days of the parcel's arrival."),
    ),
    "PP-4712": (
        Reply(calls=[("look_up_order", {"order": "PP-4712"})]),
        Reply(calls=[("look_up_order", {"order": "4712"})], thinking=0.3),
        Reply(text="Your touring saddle was delivered last week. I hope it rides well!"),
    ),
    "shipping to Vienna": (
        Reply(calls=[("read_policy", {"topic": "shipping"})]),
        Reply(text="Above 50 EUR it is free, otherwise 4.90 EUR, and it takes two to four working days."),
    ),
    "open on Saturdays": (Reply(text="Yes, from nine to two, and the coffee is on us.", reasoning_tokens=64),),
    "chain skips": (
        Reply(
            text="A chain that skips under load is mostly worn, and so is the cassette it has been running on. Measure "
            "it with a gauge first: from 0.75 % on, both",
            failure="error",
        ),
    ),
    "winter tyres": (
        Reply(
            text="For wet and dark roads take a tyre with a soft compound and a reflective stripe, a little wider than "
            "in summer and with a little less pressure in it. With studs you are safe on ice as well, at the price "
            "of noise and speed. Tell me your rim width and I will name three that fit, from plain to luxurious.",
        ),
    ),
    "story of the shop": (
        Reply(
            text="It began in 1994 with two friends, a borrowed stand and a delivery round. The letters went by "
            "bicycle, the bicycles broke, and somebody had to mend them. Soon more people came for the mending than "
            "for the letters, so the sign was painted over, but the old name stayed in it, and it hangs there today.",
        ),
    ),
}
"""Replies, in turn, by a phrase of the user's message."""

OTHERWISE = Reply(text="I am a scripted model and know only the questions of the demo.")


def answer(messages: Sequence[Message]) -> Reply:
    """Scripted reply to `messages`."""
    asked = max((index for index, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    question = str(messages[asked].get("content")) if asked >= 0 else ""
    turn: int = sum(message.get("role") == "assistant" for message in messages[asked + 1 :])
    for phrase, replies in REPLIES.items():
        if phrase in question:
            return replies[min(turn, len(replies) - 1)]
    return OTHERWISE
