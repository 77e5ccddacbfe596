"""The demo's model server, against the real openai client and raw connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import openai
import pytest

from sidestream.demo.reply import Reply
from sidestream.demo.script import OTHERWISE, REPLIES, answer
from sidestream.demo.server import ModelServer

T = TypeVar("T")
QUESTION: list[Any] = [{"role": "user", "content": "?"}]
TWO_CALLS = Reply(calls=[("look_up", {"order": "4711"}), ("read", {"topic": "returns", "language": "ö"})])


def ask(reply: Reply, question: Callable[[openai.AsyncOpenAI], Awaitable[T]]) -> T:
    """Result of `question` with a server that always answers `reply`."""

    async def run() -> T:
        async with ModelServer(lambda _: reply, speed=1_000) as server:
            async with openai.AsyncOpenAI(base_url=server.base_url, api_key="demo", max_retries=0) as client:
                return await question(client)

    return asyncio.run(run())


async def whole(client: openai.AsyncOpenAI, messages: list[Any] = QUESTION) -> Any:
    return await client.chat.completions.create(model="gpt-5-mini", messages=messages)


async def streamed(client: openai.AsyncOpenAI) -> list[Any]:
    stream = await client.chat.completions.create(
        model="gpt-5-mini", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    return [chunk async for chunk in stream]


class TestAnswers:
    def test_whole_text(self) -> None:
        """Without `stream`, the answer comes in one piece, with its usage."""
        completion = ask(Reply(text="Yes, of course.", reasoning_tokens=64), whole)
        [choice] = completion.choices
        assert (choice.message.content, choice.finish_reason) == ("Yes, of course.", "stop")
        assert completion.model == "gpt-5-mini"
        assert completion.usage.completion_tokens == 3 + 64
        assert completion.usage.completion_tokens_details.reasoning_tokens == 64
        assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens

    def test_streamed_text(self) -> None:
        """Streamed, the deltas add up to the text, the role comes first, finish reason and usage come last."""
        chunks = ask(Reply(text="One two\nthree."), streamed)
        *pieces, finish, usage = chunks
        assert pieces[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].delta.content for chunk in pieces] == ["", "One", " two", "\nthree."]
        assert [chunk.choices[0].finish_reason for chunk in pieces] == [None] * 4
        assert finish.choices[0].finish_reason == "stop"
        assert usage.choices == []
        assert usage.usage.completion_tokens == 3
        assert len({chunk.id for chunk in chunks}) == 1

    def test_usage_only_when_asked(self) -> None:
        """Without `stream_options.include_usage` no chunk has usage."""

        async def question(client: openai.AsyncOpenAI) -> list[Any]:
            stream = await client.chat.completions.create(model="gpt-5-mini", messages=QUESTION, stream=True)
            return [chunk async for chunk in stream]

        chunks = ask(Reply(text="Yes."), question)
        assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"

    def test_whole_tool_calls(self) -> None:
        """Tool calls have an id of their own each, and their arguments as JSON."""
        [choice] = ask(TWO_CALLS, whole).choices
        calls = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls"
        assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == list(TWO_CALLS.calls)
        assert len({call.id for call in calls}) == 2

    def test_streamed_tool_calls(self) -> None:
        """Streamed, a call's name and id come once, and its arguments in several bits that add up."""
        chunks = ask(TWO_CALLS, streamed)
        deltas = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
        for index, (name, args) in enumerate(TWO_CALLS.calls):
            opening, *bits = [delta for delta in deltas if delta.index == index]
            assert opening.function.name == name
            assert opening.id
            assert {(bit.id, bit.function.name) for bit in bits} == {(None, None)}
            assert len(bits) > 2
            assert json.loads("".join(bit.function.arguments for bit in bits)) == args

    def test_cached_tokens(self) -> None:
        """From the second answer on, what was sent before comes from the cache, and is part of the prompt's tokens."""

        async def question(client: openai.AsyncOpenAI) -> list[Any]:
            long = [{"role": "user", "content": "word " * 200}]
            first = await whole(client, long)
            second = await whole(client, [*long, {"role": "assistant", "content": "So?"}, *QUESTION])
            return [first.usage, second.usage]

        first, second = ask(Reply(text="Yes."), question)
        assert first.prompt_tokens_details.cached_tokens == 0
        assert 0 < second.prompt_tokens_details.cached_tokens < second.prompt_tokens


class TestFailures:
    def test_status(self) -> None:
        """A failure before the answer is an HTTP error with OpenAI's error body."""
        with pytest.raises(openai.InternalServerError, match="had an error") as caught:
            ask(Reply(text="Yes.", failure="status"), streamed)
        assert caught.value.status_code == 500

    @pytest.mark.parametrize(("failure", "error"), [("error", openai.APIError), ("drop", openai.APIConnectionError)])
    def test_mid_stream(self, failure: Any, error: Any) -> None:
        """A failure in mid-stream comes after half of the text, and the client sees it for what it is."""
        seen: list[str] = []

        async def question(client: openai.AsyncOpenAI) -> None:
            stream = await client.chat.completions.create(model="gpt-5-mini", messages=QUESTION, stream=True)
            async for chunk in stream:
                seen.append(chunk.choices[0].delta.content or "")

        with pytest.raises(error):
            ask(Reply(text="one two three four", failure=failure), question)
        assert "".join(seen) == "one two"

    @pytest.mark.parametrize("failure", ["status", "error", "drop"])
    def test_not_streamed(self, failure: Any) -> None:
        """A reply without streaming cannot break off in the middle, and fails as a whole."""
        with pytest.raises(openai.InternalServerError):
            ask(Reply(text="Yes.", failure=failure), whole)


class TestConnections:
    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "message"),
        [
            ("GET", "/models", b"", 404, "Not Found"),
            ("GET", "/chat/completions", b"", 405, "Method Not Allowed"),
            ("POST", "/chat/completions", b"", 400, "not JSON"),
            ("POST", "/chat/completions", b"{]", 400, "not JSON"),
            ("POST", "/chat/completions", b"[]", 400, "`messages`"),
            ("POST", "/chat/completions", b'{"model": "m", "messages": []}', 400, "`messages`"),
        ],
    )
    def test_bad_requests(self, method: str, path: str, body: bytes, status: int, message: str) -> None:
        """A request that cannot be answered gets a status and a reason."""

        async def run() -> httpx.Response:
            async with ModelServer(answer) as server, httpx.AsyncClient(trust_env=False) as client:
                return await client.request(method, server.base_url + path, content=body)

        response = asyncio.run(run())
        assert response.status_code == status
        assert message in response.text

    def test_client_that_leaves(self) -> None:
        """A client that hangs up in mid-stream disturbs neither the server nor other clients."""

        async def question(client: openai.AsyncOpenAI) -> Any:
            stream = await client.chat.completions.create(model="gpt-5-mini", messages=QUESTION, stream=True)
            async for _ in stream:
                break
            await stream.close()
            return await whole(client)

        assert ask(Reply(text="word " * 500), question).choices[0].finish_reason == "stop"

    def test_close_while_answering(self) -> None:
        """Leaving the server ends the answers that are still under way."""

        async def run() -> None:
            asked = asyncio.Event()

            def never(_: object) -> Reply:
                asked.set()
                return Reply(text="Late.", thinking=3_600)

            server = await ModelServer(never).__aenter__()
            async with openai.AsyncOpenAI(base_url=server.base_url, api_key="demo", max_retries=0) as client:
                asking = asyncio.create_task(whole(client))
                await asked.wait()
                await server.__aexit__(None, None, None)
                with pytest.raises(openai.APIError):
                    await asking
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(run())


class TestScript:
    def test_turns(self) -> None:
        """The reply follows from the question and the number of answers since."""
        conversation: list[dict[str, Any]] = [{"role": "system"}, {"role": "user", "content": "And PP-4712?"}]
        for reply in REPLIES["PP-4712"]:
            assert answer(conversation) is reply
            conversation += [{"role": "assistant"}, {"role": "tool", "content": "…"}]

    def test_unknown_question(self) -> None:
        """A question that the script does not know has an answer too, and so has none at all."""
        assert answer(QUESTION) is OTHERWISE
        assert answer([{"role": "system", "content": "…"}]) is OTHERWISE
