"""What the model of the provider answers: a rule for each form in which a framework asks.

A prompt steers it by two marks: `@call:NAME` has the tool of that name called, several marks one after the
other; `@fail:STATUS` has the request fail with that status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

CALL = re.compile(r"@call:([\w.-]+)")
FAIL = re.compile(r"@fail:(\d{3})")
SENTENCE = "It is sunny in Paris."

# Tools by which agents hand in their last word: smolagents, Pydantic AI.
_LAST_WORDS = ("final_answer", "final_result")
_DEEPEST_SCHEMA = 6


@dataclass(frozen=True)
class Turn:
    """One message, or the result of a tool."""

    role: Literal["system", "user", "model", "tool"]
    text: str


@dataclass(frozen=True)
class Ask:
    """A request to a chat model, whatever wire it came by."""

    turns: Sequence[Turn]
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # schemas of the arguments by name
    forced_tool: str | None = None
    must_call: bool = False
    schema: Mapping[str, Any] | None = None  # of a structured answer

    @property
    def text(self) -> str:
        """Everything that was written, in order."""
        return "\n".join(turn.text for turn in self.turns)

    @property
    def system(self) -> str:
        """Return what stands in system messages."""
        return "\n".join(turn.text for turn in self.turns if turn.role == "system")

    @property
    def next_tool(self) -> str | None:
        """The tool of the first mark that has no result yet."""
        marks: list[str] = []
        results = 0
        for turn in self.turns:
            if turn.role == "tool":
                results += 1
                continue
            if turn.role == "model":
                continue
            if marks_here := CALL.findall(turn.text):
                marks, results = marks_here, 0
            # Some frameworks tell results of tools in messages of the user.
            results += len(re.findall(r"\bObservation:|\[\[ ## observation_\d+ ## \]\]", turn.text))
        return marks[results] if results < len(marks) else None


@dataclass(frozen=True)
class Answer:
    """A text, or the call of a tool."""

    text: str = ""
    tool: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def failure(text: str) -> int | None:
    """Return the status that the prompt asks for, if it does."""
    mark = FAIL.search(text)
    return int(mark[1]) if mark else None


def answer(ask: Ask) -> Answer:
    """Return the call of a tool where one is due, else a text in the form that the prompt wants."""
    tool = _tool(ask)
    if tool is not None:
        return Answer(tool=tool, arguments=fill(ask.tools[tool]) or {})
    if ask.schema is not None:
        return Answer(text=json.dumps(fill(ask.schema)))
    for is_form, write in _FORMS:
        if is_form(ask):
            return Answer(text=write(ask))
    results = [turn.text for turn in ask.turns if turn.role == "tool"]
    return Answer(text=f"The tool answered: {results[-1][:60]}" if results else SENTENCE)


def _tool(ask: Ask) -> str | None:
    if ask.forced_tool in ask.tools:
        return ask.forced_tool
    wanted = ask.next_tool
    for name in ask.tools:
        if wanted is not None and (name == wanted or name.endswith(f"-{wanted}")):
            return name
    for name in _LAST_WORDS:
        if name in ask.tools:
            return name
    return next(iter(ask.tools), None) if ask.must_call else None


def fill(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """Return a value that fits a JSON schema."""
    root = schema if root is None else root
    if depth > _DEEPEST_SCHEMA:
        return SENTENCE
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return fill({**root.get("$defs", {}), **root.get("definitions", {})}.get(name, {}), root, depth + 1)
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return fill(schema[choice][0], root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = str(kind[0] if isinstance(kind, list) else kind).lower()
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: fill(each, root, depth + 1) for name, each in properties.items()}
    if kind == "array":
        return [fill(schema.get("items") or {}, root, depth + 1)]
    return {"integer": 21, "number": 21.5, "boolean": True, "null": None}.get(kind, "Paris")


def _dspy(ask: Ask) -> str:
    """DSPy's chat adapter: fields between markers."""
    listed = ask.system.partition("output fields are")[2].partition("All interactions")[0]
    values = dict.fromkeys(re.findall(r"^\d+\. `(\w+)`", listed, re.MULTILINE), SENTENCE)
    if "next_tool_name" in values:
        tool = ask.next_tool
        values["next_tool_name"] = tool or "finish"
        values["next_tool_args"] = '{"city": "Paris"}' if tool else "{}"
    fields = "".join(f"[[ ## {name} ## ]]\n{value}\n\n" for name, value in values.items())
    return f"{fields}[[ ## completed ## ]]"


def _smolagents(ask: Ask) -> str:
    """A smolagents `CodeAgent`: Python between tags."""
    tool = ask.next_tool
    code = f'print({tool}(city="Paris"))' if tool else f'final_answer("{SENTENCE}")'
    return f"Thought: one step.\n<code>\n{code}\n</code>"


def _react(ask: Ask) -> str:
    """Thought, action, observation, as CrewAI has it without native tools."""
    tool = ask.next_tool
    if tool is not None and "Action:" in ask.text:
        return f'Thought: I look.\nAction: {tool}\nAction Input: {{"city": "Paris"}}'
    return f"Thought: I know.\nFinal Answer: {SENTENCE}"


_FORMS: Sequence[tuple[Callable[[Ask], bool], Callable[[Ask], str]]] = (
    (lambda ask: "[[ ## completed ## ]]" in ask.text, _dspy),
    (lambda ask: "<code>" in ask.system and "final_answer" in ask.system, _smolagents),
    (lambda ask: "Final Answer:" in ask.text, _react),
)
