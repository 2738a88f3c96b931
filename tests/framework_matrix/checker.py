"""What is wrong with the events of one run, in plain sentences.

Each generation is matched with the request that has its tokens; what then is left over is matched within its
scenario, so that a call with wrong tokens is told from one that never came. ADD A CHECK HERE.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.framework_matrix.provider import Request

Event: TypeAlias = dict[str, Any]

USER, CHAT = "user_42", "chat-7"
_CALLS = {"$ai_generation": "chat", "$ai_embedding": "embedding"}
_OUTCOMES = {"llm_completion_success", "llm_completion_failed"}
_TREE = {*_CALLS, "$ai_trace", "$ai_span"}
_ROLES = {"system", "developer", "user", "assistant", "tool", "function", "model"}
_PROVIDERS = {"openai": "openai", "gemini": "google"}
# Seconds until a slow provider answers: longer than the product's flush interval, as real models are.
SLOW_ANSWER = 1.3


@dataclass(frozen=True)
class Outcome:
    """How a scenario ended in the program."""

    scenario: str
    problem: str | None
    seconds: float


@dataclass(frozen=True)
class Evidence:
    """All that is left of one run."""

    requests: Sequence[Request]
    events: Sequence[Event]
    stderr: Sequence[str] = ()
    outcomes: Sequence[Outcome] = ()
    unknown_paths: Sequence[str] = ()
    exit_code: int = 0
    seconds: float = 0.0
    tells_agents: bool = True  # whether calls of an agent are to stand in one tree with one head
    slow: bool = False


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: its kind, in the words of the table, and what came instead."""

    kind: str
    scenario: str
    detail: str = ""

    def __str__(self) -> str:
        """Return a sentence."""
        return f"{self.scenario or 'the run'}: {self.kind}{f': {self.detail}' if self.detail else ''}"


@dataclass(frozen=True)
class _Matches:
    """The calls of a run, each with the generation that is its own."""

    of_request: Mapping[int, Event]  # by the number of the request
    missing: Sequence[Request]
    extra: Sequence[Event]


def check(evidence: Evidence) -> list[Fault]:
    """Return what is wrong with a run."""
    matches = _match(evidence)
    return [
        *_run(evidence),
        *_counts(matches),
        *_each_call(evidence, matches),
        *_pairs(evidence, matches),
        *_trees(evidence),
        *_context(evidence),
    ]


def calls(evidence: Evidence) -> int:
    """Count the generations and embeddings of a run."""
    return sum(event["event"] in _CALLS for event in evidence.events)


def _run(evidence: Evidence) -> Iterator[Fault]:
    for outcome in evidence.outcomes:
        if outcome.problem and not outcome.scenario.startswith("failing"):
            yield Fault("the scenario itself broke", outcome.scenario, outcome.problem)
    for path in sorted(set(evidence.unknown_paths)):
        yield Fault("the provider does not serve a path", "", path)
    if evidence.exit_code:
        yield Fault("the program ended with an error", "", f"exit code {evidence.exit_code}")
    if not evidence.outcomes:
        yield Fault("no scenario ran", "")
    if evidence.stderr:
        yield Fault(
            "text on stderr",
            "",
            f"{len(evidence.stderr)} lines, the first: {evidence.stderr[0].strip()[:200]}",
        )


def _scenario(event: Event) -> str:
    return str(event["properties"].get("feature") or "")


def _tokens(event: Event) -> tuple[int, int]:
    properties = event["properties"]
    return properties.get("$ai_input_tokens") or 0, properties.get("$ai_output_tokens") or 0


def _wanted_tokens(request: Request) -> tuple[int, int]:
    return request.usage.input_tokens, request.usage.output_tokens if request.kind == "chat" else 0


def _match(evidence: Evidence) -> _Matches:
    """Match by tokens, then what is left by scenario and outcome, then what has no scenario by its order."""
    of_request: dict[int, Event] = {}
    by_tokens = {_wanted_tokens(request): request for request in evidence.requests}
    left_events: list[Event] = []
    for event in sorted(evidence.events, key=lambda each: str(each["timestamp"])):
        if event["event"] not in _CALLS:
            continue
        request = by_tokens.get(_tokens(event))
        if request is not None and request.number not in of_request:
            of_request[request.number] = event
        else:
            left_events.append(event)
    unmatched = [request for request in evidence.requests if request.number not in of_request]
    for fits in (_same_scenario_and_outcome, _same_scenario, _no_scenario):
        for request in list(unmatched):
            event_of_it = next((event for event in left_events if fits(event, request)), None)
            if event_of_it is not None:
                of_request[request.number] = event_of_it
                left_events = [event for event in left_events if event is not event_of_it]
                unmatched.remove(request)
    return _Matches(of_request, unmatched, left_events)


def _is_error(event: Event) -> bool:
    return bool(event["properties"].get("$ai_is_error"))


def _same_scenario(event: Event, request: Request) -> bool:
    # Tokens of another request make it a second event of that call.
    return _scenario(event) == request.scenario and not any(_tokens(event))


def _same_scenario_and_outcome(event: Event, request: Request) -> bool:
    return (
        _same_scenario(event, request)
        and _is_error(event) == (request.status != 200)
        and _CALLS[event["event"]] == request.kind
    )


def _no_scenario(event: Event, request: Request) -> bool:
    return not _scenario(event) and not any(_tokens(event)) and _is_error(event) == (request.status != 200)


def _counts(matches: _Matches) -> Iterator[Fault]:
    for request in matches.missing:
        yield Fault("a request has no generation", request.scenario, _label(request))
    for event in matches.extra:
        name = event["properties"].get("$ai_span_name")
        yield Fault("a generation has no request", _scenario(event), f"{name}, tokens {_tokens(event)}")


def _label(request: Request) -> str:
    status = "" if request.status == 200 else f", {request.status}"
    return f"{request.endpoint}{', streamed' if request.stream else ''}{status}"


def _each_call(evidence: Evidence, matches: _Matches) -> Iterator[Fault]:
    """Compare each generation with its request."""
    for request in evidence.requests:
        event = matches.of_request.get(request.number)
        if event is None:
            continue
        for kind, check_one in _CALL_CHECKS:
            detail = check_one(event, request, evidence)
            if detail is not None:
                yield Fault(kind, request.scenario, f"{_label(request)}: {detail}")


def _kind(event: Event, request: Request, evidence: Evidence) -> str | None:
    return f"is {event['event']}" if _CALLS[event["event"]] != request.kind else None


def _token_counts(event: Event, request: Request, evidence: Evidence) -> str | None:
    if request.status != 200 or _left_early(request) or _tokens(event) == _wanted_tokens(request):
        return None
    return f"{_tokens(event)} instead of {_wanted_tokens(request)}" if any(_tokens(event)) else "none"


def _left_early(request: Request) -> bool:
    return request.scenario.startswith("left")


def _status(event: Event, request: Request, evidence: Evidence) -> str | None:
    return (
        f"the provider answered with {request.status}"
        if _is_error(event) != (request.status != 200)
        else None
    )


def _model(event: Event, request: Request, evidence: Evidence) -> str | None:
    model = str(event["properties"].get("$ai_model"))
    # A request that failed was answered by no model.
    right = model == request.model or (request.status != 200 and request.model.startswith(model))
    return None if right else f"{model} instead of {request.model}"


def _provider(event: Event, request: Request, evidence: Evidence) -> str | None:
    provider = event["properties"].get("$ai_provider")
    return None if provider == _PROVIDERS[request.provider] else f"{provider}"


def _input(event: Event, request: Request, evidence: Evidence) -> str | None:
    if request.kind == "embedding":
        return None
    told = event["properties"].get("$ai_input")
    if not told:
        return "none"
    # Frameworks may cut a message into parts, or join several: the last line is there in any case.
    wanted = json.dumps(request.prompt.strip().splitlines()[-1:])[2:-2]
    return None if wanted in json.dumps(told) else f"{json.dumps(told)[:120]}"


def _roles(event: Event, request: Request, evidence: Evidence) -> str | None:
    told = event["properties"].get("$ai_input")
    messages = told if isinstance(told, list) else []
    roles = {str(message.get("role")) for message in messages if isinstance(message, dict)} - _ROLES
    return ", ".join(sorted(roles)) or None


def _output(event: Event, request: Request, evidence: Evidence) -> str | None:
    nothing_due = request.kind == "embedding" or request.status != 200 or _left_early(request)
    return None if nothing_due or event["properties"].get("$ai_output_choices") else "none"


def _latency(event: Event, request: Request, evidence: Evidence) -> str | None:
    latency = event["properties"].get("$ai_latency")
    if not evidence.slow or (latency is not None and latency >= SLOW_ANSWER - 0.1):
        return None
    return f"{latency} s"


def _first_token(event: Event, request: Request, evidence: Evidence) -> str | None:
    first, latency = (
        event["properties"].get(name) or 0 for name in ("$ai_time_to_first_token", "$ai_latency")
    )
    return f"{first} s of {latency} s" if first > latency + 0.001 else None


_CALL_CHECKS: Sequence[tuple[str, Callable[[Event, Request, Evidence], str | None]]] = (
    ("a call is of the wrong kind", _kind),
    ("tokens are wrong", _token_counts),
    ("success and failure are confused", _status),
    ("the model is not the one that answered", _model),
    ("the provider is wrong", _provider),
    ("the input is not what was sent", _input),
    ("roles are not known ones", _roles),
    ("the output is missing", _output),
    ("the call is shorter than its answer took", _latency),
    ("the first token comes after the end", _first_token),
)


def _pairs(evidence: Evidence, matches: _Matches) -> Iterator[Fault]:
    """Compare each call with what announced it and what became of it."""
    announced = _by_span(evidence.events, {"llm_completion_requested"})
    ended = _by_span(evidence.events, _OUTCOMES)
    for request in evidence.requests:
        event = matches.of_request.get(request.number)
        if event is None:
            continue
        outcomes = ended.get(_span(event), [])
        if len(outcomes) != 1:
            yield Fault(
                "not one outcome for a generation", request.scenario, f"{_label(request)}: {len(outcomes)}"
            )
        elif (outcomes[0]["event"] == "llm_completion_failed") != _is_error(event):
            yield Fault("outcome and generation contradict each other", request.scenario, _label(request))
    wanted = Counter(request.scenario for request in evidence.requests)
    for scenario, number in wanted.items():
        came = sum(_scenario(each) == scenario for group in announced.values() for each in group)
        if came < number:
            yield Fault("`requested` is missing", scenario, f"{came} of {number}")
        elif came > number:
            yield Fault("`requested` comes too often", scenario, f"{came} for {number}")
    for span, group in announced.items():
        outcomes = ended.get(span, [])
        trace = group[0]["properties"].get("$ai_trace_id")
        if not outcomes:
            yield Fault("`requested` has another span than every outcome", _scenario(group[0]))
        elif outcomes[0]["properties"].get("$ai_trace_id") != trace:
            yield Fault("`requested` has another trace than its outcome", _scenario(group[0]))


def _span(event: Event) -> str:
    return str(event["properties"].get("$ai_span_id"))


def _by_span(events: Iterable[Event], names: set[str]) -> dict[str, list[Event]]:
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event["event"] in names:
            groups[_span(event)].append(event)
    return groups


def _trees(evidence: Evidence) -> Iterator[Fault]:
    traces: dict[str, list[Event]] = defaultdict(list)
    for event in evidence.events:
        if event["event"] in _TREE:
            traces[str(event["properties"].get("$ai_trace_id"))].append(event)
    for identity, events in traces.items():
        yield from _tree(identity, events, evidence)
    of_scenario: dict[str, set[str]] = defaultdict(set)
    for identity, events in traces.items():
        for event in () if _is_empty(events) else events:
            of_scenario[_scenario(event)].add(identity)
    for scenario, identities in of_scenario.items():
        whole = scenario.endswith("_below_a_server") or (_is_agent(scenario) and evidence.tells_agents)
        allowed = 2 if scenario.endswith("at_once") else 1
        if whole and len(identities) > allowed:
            yield Fault("a run is in several traces", scenario, f"{len(identities)}")


def _is_agent(scenario: str) -> bool:
    return scenario.startswith("agent")


def _is_empty(events: Sequence[Event]) -> bool:
    """Whether nothing but a name is in a trace, as of an agent that was made and not run."""
    state = ("$ai_input_state", "$ai_output_state")
    return all(
        event["event"] == "$ai_trace" and not any(map(event["properties"].get, state)) for event in events
    )


def _tree(identity: str, events: Sequence[Event], evidence: Evidence) -> Iterator[Fault]:
    scenario = next(filter(None, map(_scenario, events)), "")
    heads = [event for event in events if event["event"] == "$ai_trace"]
    names = ", ".join(str(head["properties"].get("$ai_span_name")) for head in heads)
    if len(heads) > 1:
        yield Fault("a trace has several heads", scenario, names)
    if _is_empty(events):
        yield Fault("a trace is empty", scenario, names)
    due = any(event["event"] == "$ai_span" for event in events) or (
        _is_agent(scenario) and evidence.tells_agents
    )
    if not heads and due:
        yield Fault("a trace has no head", scenario)
    spans = {_span(event) for event in events}
    for event in events:
        if event["event"] == "$ai_trace":
            continue
        parent = event["properties"].get("$ai_parent_id")
        name = event["properties"].get("$ai_span_name")
        if parent not in spans and parent != identity:
            yield Fault("a parent is not in its trace", scenario, f"{name}")
        elif parent == identity and len(heads) == 1 and _span(heads[0]) != identity:
            yield Fault("an event stands beside the head of its trace", scenario, f"{name}")


def _context(evidence: Evidence) -> Iterator[Fault]:
    """Check that each event says whose it is; one fault for each scenario and kind of event."""
    scenarios = {outcome.scenario for outcome in evidence.outcomes}
    for kind, is_right in (
        (
            "the user is not that of `ai_context`",
            lambda event: event["distinct_id"] == USER == event["properties"].get("user_id"),
        ),
        ("the feature is not that of `ai_context`", lambda event: _scenario(event) in scenarios),
        ("the chat is not that of `ai_context`", lambda event: event["properties"].get("chat_id") == CHAT),
        (
            "the session is not the chat",
            lambda event: event["properties"].get("$ai_session_id", CHAT) == CHAT,
        ),
    ):
        wrong = Counter(
            (_scenario(event), event["event"]) for event in evidence.events if not is_right(event)
        )
        of_scenario: dict[str, list[str]] = defaultdict(list)
        for (scenario, name), count in sorted(wrong.items()):
            of_scenario[scenario].append(f"{count} {name}")
        for scenario, names in of_scenario.items():
            yield Fault(kind, scenario, ", ".join(names))
