"""How the coding CLIs name things in their log records: a row for each.

Sources: code.claude.com/docs/en/monitoring-usage, openai/codex codex-rs/otel, google-gemini/gemini-cli
packages/core/src/telemetry (Qwen Code is a fork of it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["CLAUDE_CODE", "CODEX", "GEMINI_CLI", "MODEL", "QWEN_CODE", "USAGE", "Cli"]

USAGE = "gen_ai.usage."
MODEL = "gen_ai.request.model"


class Cli(NamedTuple):
    """How one coding CLI names things in its log records."""

    name: str
    provider: str | None
    session: str
    prompt: str | None
    """The attribute with the id of the prompt that a record belongs to."""
    names: Mapping[str, str]
    """Attributes of a call, and the conventions' names for them."""
    tool: Mapping[str, str]
    """The same of a tool run; of two for one name the first that is there counts."""
    scope_suffix: str = ""
    """Distinguishes its log records from its spans if both have one scope."""


CLAUDE_CODE = Cli(
    name="Claude Code",
    provider="anthropic",
    session="session.id",
    prompt="prompt.id",
    names={
        "model": MODEL,
        "input_tokens": USAGE + "input_tokens",
        "output_tokens": USAGE + "output_tokens",
        # Anthropic's own names: the input does not include what was read from or written to the cache.
        "cache_read_tokens": USAGE + "cache_read_input_tokens",
        "cache_creation_tokens": USAGE + "cache_creation_input_tokens",
        "cost_usd": USAGE + "cost",
        "effort": "gen_ai.request.reasoning.level",
        "request_id": "posthog.request.id",
        "user.id": "user.id",
    },
    tool={
        "tool_name": "gen_ai.tool.name",
        "name": "gen_ai.tool.name",
        "tool_use_id": "gen_ai.tool.call.id",
        "tool_input": "gen_ai.tool.call.arguments",
        "tool_parameters": "gen_ai.tool.call.arguments",
    },
)
CODEX = Cli(
    name="Codex",
    provider="openai",
    session="conversation.id",
    prompt=None,
    names={
        "model": MODEL,
        "input_token_count": USAGE + "input_tokens",
        "output_token_count": USAGE + "output_tokens",
        "cached_token_count": USAGE + "cache_read.input_tokens",
        "reasoning_token_count": USAGE + "reasoning.output_tokens",
        "user.account_id": "user.id",
    },
    tool={
        "tool_name": "gen_ai.tool.name",
        "call_id": "gen_ai.tool.call.id",
        "arguments": "gen_ai.tool.call.arguments",
        "output": "gen_ai.tool.call.result",
    },
)
GEMINI_CLI = Cli(
    name="Gemini CLI",
    provider="gcp.gemini",
    session="session.id",
    prompt="prompt_id",
    names={
        "model": MODEL,
        "cached_content_token_count": USAGE + "cache_read.input_tokens",
        "thoughts_token_count": USAGE + "reasoning.output_tokens",
        "finish_reasons": "gen_ai.response.finish_reasons",
        "installation.id": "user.id",
    },
    tool={"function_name": "gen_ai.tool.name", "function_args": "gen_ai.tool.call.arguments"},
    scope_suffix=".logs",
)
QWEN_CODE = GEMINI_CLI._replace(name="Qwen Code", provider=None)
