"""The PostHog projects of a gateway. A request's header or a span's resource names the project."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.forwarder import drain
from otel_posthog.gateway.decode import RejectedSpans
from otel_posthog.gateway.ingest import IngestResult, ProjectIngest
from otel_posthog.gateway.limits import RequestRejectedError

__all__ = ["Projects", "Readiness"]

MAX_SHOWN = 60
"""Characters of an unknown name, in an answer and in the log."""
_NO_NAME = "a value that is no string"
_KEY = re.compile(r"\s*ph[a-z]_")


class Readiness(NamedTuple):
    """Whether this gateway should receive spans now."""

    ready: bool
    problems: list[str]
    """One sentence for each problem of the spool or of a project; there may be some although it is ready."""


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
        """Make the projects from their ingests by name; for the other arguments see `ProjectTable`."""
        self.by_name = ingests
        self.extra_attributes = frozenset[str]().union(
            *(ingest.extra_attributes for ingest in ingests.values())
        )
        """Attributes of any span that the feature rules read."""
        self._header = header
        self._attribute = resource_attribute
        self._default = default
        self._splitting = threading.Lock()

    @classmethod
    def only(cls, ingest: ProjectIngest) -> Projects:
        """Return the only project, without a name, to which all spans belong."""
        return cls({"": ingest}, default="")

    def ingest(
        self, headers: Mapping[str, str], spans: Iterable[SpanView | ContextSpan], rejected: RejectedSpans
    ) -> IngestResult:
        """Ingest the spans of a request, each for its project; `rejected` counts those of unknown projects.

        Raises:
            RequestRejectedError: the header names no project of this gateway.
        """
        header = None if self._header is None else headers.get(self._header)
        if not header and self._attribute is not None:
            return self._ingest_by_resource(spans, self._attribute, rejected)
        name = header or self._default
        if name is None or name not in self.by_name:
            raise RequestRejectedError(400, _no_project(f"the header {self._header}", header))
        return _with_project(name, self.by_name[name].ingest(spans))

    def _ingest_by_resource(
        self, spans: Iterable[SpanView | ContextSpan], attribute: str, rejected: RejectedSpans
    ) -> IngestResult:
        """Ingest spans whose resources name their projects.

        Spans inherit from spans of their own project and of none, not from those of another project. If one
        project cannot deliver now, the sender retries the whole request, so the next projects are skipped.
        """
        views_by_project: dict[str, list[SpanView]] = {}
        others: list[tuple[str, ContextSpan]] = []
        """With the project that the resource names, known or not; empty if it names none."""
        with self._splitting:  # one request's spans at a time
            for span in spans:
                value = span.resource.get(attribute)
                resource_name = value if isinstance(value, str) else "" if value is None else _NO_NAME
                if isinstance(span, ContextSpan):
                    others.append((resource_name, span))
                    continue
                name = resource_name or self._default
                if name is None or name not in self.by_name:
                    rejected.add(_no_project(f"the resource attribute {attribute}", resource_name))
                else:
                    views_by_project.setdefault(name, []).append(span)
        count = sum(map(len, views_by_project.values()))
        total = IngestResult(safe=True, ignored=len(others))
        for name, views in self._in_order(views_by_project):
            inheritable = (other for owner, other in others if owner in ("", name))
            result = _with_project(name, self.by_name[name].ingest(chain(drain(views), inheritable)))
            if not result.safe:
                return result._replace(spans=count, ignored=len(others))
            total = total._replace(
                spans=total.spans + result.spans,
                rejected=total.rejected + result.rejected,
                reason=total.reason or result.reason,
            )
        return total

    def owner(self, headers: Mapping[str, str], resource: Mapping[str, Any]) -> tuple[str | None, str]:
        """Return the names that choose the project of a span: content joins spans with the same names."""
        header = None if self._header is None else headers.get(self._header)
        return header, "" if self._attribute is None or header else str(resource.get(self._attribute))

    def _in_order(
        self, views_by_project: Mapping[str, list[SpanView]]
    ) -> Iterator[tuple[str, list[SpanView]]]:
        """Yield the projects that have spans or a window; first those that send nothing now."""
        for name in sorted(self.by_name, key=lambda name: -self.by_name[name].pause_left()):
            if name in views_by_project or self.by_name[name].has_window:
                yield name, views_by_project.get(name, [])

    def readiness(self) -> Readiness:
        """Return whether any project can deliver or store events; all share one spool."""
        halted = [name for name, ingest in self.by_name.items() if ingest.forwarder.halted_for]
        problems = [
            _prefix(name) + "PostHog rejects the project key or the account: see the log" for name in halted
        ]
        full = any(ingest.forwarder.spool_is_full for ingest in self.by_name.values())
        if full:
            problems.append(
                "the spool is full: raise spool_max_bytes, or see in the log why PostHog accepts nothing"
            )
        return Readiness(not full and len(halted) < len(self.by_name), problems)

    def close(self) -> None:
        """Let every request continue without waiting for spans: the gateway shuts down."""
        for ingest in self.by_name.values():
            ingest.close()


def _no_project(source: str, name: str | None) -> str:
    """Return the sentence that rejects `name`, which `source` has in place of a project's name."""
    if not name:
        return f"{source} must name a project of this gateway"
    if _KEY.match(name):  # the sentence must not show a key
        return f"{source} must have the name of a project, not a key"
    shown = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}..."
    return f"{source} names {shown!r}, which is no project of this gateway"


def _with_project(name: str, result: IngestResult) -> IngestResult:
    """Return the result with the project's name before its reason."""
    return result if result.reason is None else result._replace(reason=_prefix(name) + result.reason)


def _prefix(name: str) -> str:
    return f"project {name}: " if name else ""
