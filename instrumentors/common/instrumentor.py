"""The frame of an instrumentor: which versions it supports, how it is switched on and off."""

from __future__ import annotations

from abc import abstractmethod
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from instrumentors.common.call_span import captures_content, logger
from instrumentors.common.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Collection

    from opentelemetry.trace import Tracer


class SdkInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """An instrumentor of one SDK; a subclass names the supported versions and patches the SDK."""

    package: str
    lowest: str
    """The first supported version."""
    below: str
    """The first version that is not supported."""
    scope: str
    """The instrumentation scope of our spans."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the supported versions of the SDK as requirements."""
        return (f"{self.package} >= {self.lowest}, < {self.below}",)

    def instrument(self, **kwargs: Any) -> Any:
        """Patch the SDK: `instrument(tracer_provider=None, capture_content=None)`.

        If `capture_content` is None, ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` decides whether
        prompts and answers go onto spans.

        Raises:
            ModuleNotFoundError: the SDK is not installed.
        """
        # Our own check logs an unsupported version and goes on; the base class would silently do nothing.
        kwargs.pop("skip_dep_check", None)
        return super().instrument(skip_dep_check=True, **kwargs)

    @abstractmethod
    def _patch(self, patches: Patches, tracer: Tracer, *, content: bool) -> None:
        """Patch the SDK; `content` is whether prompts and answers go onto spans."""

    def _instrument(self, **kwargs: Any) -> None:
        _check_version(self.package, self.lowest, self.below)
        self._patches = Patches()
        tracer = trace.get_tracer(self.scope, tracer_provider=kwargs.get("tracer_provider"))
        self._patch(self._patches, tracer, content=captures_content(kwargs.get("capture_content")))

    def _uninstrument(self, **_: Any) -> None:
        self._patches.undo()


def _check_version(package: str, lowest: str, below: str) -> None:
    """Log a warning if the installed version is not supported; it is instrumented all the same."""
    try:
        installed = version(package)
    except PackageNotFoundError:
        return
    if not _numbers(lowest) <= _numbers(installed) < _numbers(below):
        logger.warning(
            "%s %s is not known to work with otel-posthog (>=%s,<%s is); going on",
            *(package, installed, lowest, below),
        )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(".")[:2] if number.isdigit())
