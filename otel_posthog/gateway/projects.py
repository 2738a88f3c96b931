"""Which PostHog project a span is for: that of its request's header, or of its resource."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.forwarder.span_converter import emptied
from otel_posthog.gateway.decode import RejectedSpans
from otel_posthog.gateway.ingest import IngestResult, ProjectIngest
from otel_posthog.gateway.limits import RequestRejectedError

__all__ = ["Projects", "Readiness"]

MAX_SHOWN = 60
"""Characters of a name that is not known, in an answer and in the log."""
_NO_TEXT = "something that is no text"
_KEY = re.compile(r"\s*ph[a-z]_")


class Readiness(NamedTuple):
    """Whether spans should be sent here now."""

    ready: bool
    problems: list[str]
    """Why not, or what is wrong with some of the projects; one sentence each."""


class Projects:
    """The projects of a gateway. Safe to share by threads."""

    def __init__(
        self,
        ingests: Mapping[str, ProjectIngest],
        *,
        header: str | None = None,
        resource_attribute: str | None = None,
        default: str | None = None,
    ) -> None:
        """Make the projects of their ingests, by name; see `ProjectTable`."""
        self.by_name = ingests
        self.extra_attributes = frozenset[str]().union(
            *(ingest.extra_attributes for ingest in ingests.values())
        )
        """Attributes of any span that the rules for features ask for."""
        self._header = header
        self._attribute = resource_attribute
        self._default = default
        self._parting = threading.Lock()

    @classmethod
    def only(cls, ingest: ProjectIngest) -> Projects:
        """One project without a name, which all is for."""
        return cls({"": ingest}, default="")

    def ingest(
        self, headers: Mapping[str, str], spans: Iterable[SpanView | ContextSpan], rejected: RejectedSpans
    ) -> IngestResult:
        """What became of the spans of a request; those that are for no project are told `rejected`.

        Raises:
            RequestRejectedError: the request is for no project.
        """
        named = None if self._header is None else headers.get(self._header)
        if not named and self._attribute is not None:
            return self._taken_by_each(spans, self._attribute, rejected)
        name = named or self._default
        if name is None or name not in self.by_name:
            raise RequestRejectedError(400, _no_project(f"the header {self._header}", named))
        return _of_project(name, self.by_name[name].ingest(spans))

    def _taken_by_each(
        self, spans: Iterable[SpanView | ContextSpan], attribute: str, rejected: RejectedSpans
    ) -> IngestResult:
        """The answer for spans whose resources name their projects.

        All projects hear what is handed down, but for what stands on a span of another project.
        One that does not take its spans now has all sent again, so the others are spared theirs.
        """
        found: dict[str, list[SpanView]] = {}
        others: list[tuple[str, ContextSpan]] = []
        """With the project that it is of, which may be none of ours; empty: any."""
        with self._parting:  # one request's spans at a time
            for span in spans:
                value = span.resource.get(attribute)
                named = value if isinstance(value, str) else "" if value is None else _NO_TEXT
                if isinstance(span, ContextSpan):
                    others.append((named, span))
                    continue
                name = named or self._default
                if name is None or name not in self.by_name:
                    rejected.add(_no_project(f"the resource attribute {attribute}", named))
                else:
                    found.setdefault(name, []).append(span)
        count = sum(map(len, found.values()))
        answer = IngestResult(safe=True, ignored=len(others))
        for name, views in self._in_order(found):
            theirs = (other for owner, other in others if owner in ("", name))
            taken = _of_project(name, self.by_name[name].ingest(chain(emptied(views), theirs)))
            if not taken.safe:
                return taken._replace(spans=count, ignored=len(others))
            answer = answer._replace(
                spans=answer.spans + taken.spans,
                rejected=answer.rejected + taken.rejected,
                reason=answer.reason or taken.reason,
            )
        return answer

    def _in_order(self, found: Mapping[str, list[SpanView]]) -> Iterator[tuple[str, list[SpanView]]]:
        """Whoever has something to take: those that take nothing now first."""
        resting = sorted(self.by_name, key=lambda name: -self.by_name[name].rests_for())
        for name in resting:
            if name in found or self.by_name[name].remembers:
                yield name, found.get(name, [])

    def readiness(self) -> Readiness:
        """Whether any project takes spans; a spool is one for all."""
        halted = [name for name, ingest in self.by_name.items() if ingest.forwarder.delivery.halted_for()]
        problems = [
            _of(name) + "PostHog refuses the project key or the account: see the log" for name in halted
        ]
        full = any(ingest.forwarder.backlog.is_full() for ingest in self.by_name.values())
        if full:
            problems.append("the spool is full: raise spool_max_bytes, or see why PostHog takes nothing")
        return Readiness(not full and len(halted) < len(self.by_name), problems)

    def close(self) -> None:
        """Let no request wait any more: the gateway ends."""
        for ingest in self.by_name.values():
            ingest.close()


def _no_project(where: str, named: str | None) -> str:
    """Why what stands there chooses no project."""
    if not named:
        return f"{where} must name a project of this gateway"
    if _KEY.match(named):  # nothing may show it
        return f"{where} must have the name of a project, not a key"
    shown = named if len(named) <= MAX_SHOWN else f"{named[:MAX_SHOWN]}..."
    return f"{where} names {shown!r}, which is no project of this gateway"


def _of_project(name: str, answer: IngestResult) -> IngestResult:
    """The answer, whose sentence says which project it is about."""
    return answer if answer.reason is None else answer._replace(reason=_of(name) + answer.reason)


def _of(name: str) -> str:
    return f"project {name}: " if name else ""
