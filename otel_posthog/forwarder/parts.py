"""The parts of a forwarder, built from the options, in the order in which a span passes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from otel_posthog.config.resolve import Config
from otel_posthog.conversion.events import Sampling
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.pricing.price_file import read_prices
from otel_posthog.conversion.pricing.rates import Rates
from otel_posthog.conversion.privacy.media import MediaReplacer, placeholder, storing
from otel_posthog.conversion.privacy.redaction import Redactor, redactor
from otel_posthog.conversion.spans.feature_rules import FeatureRules
from otel_posthog.delivery import (
    Backlog,
    DeliveryClient,
    DeliveryOptions,
    Outbox,
    Transport,
    destination_of,
    ingestion_host,
)
from otel_posthog.forwarder.mask_hook import MaskHook
from otel_posthog.forwarder.span_converter import SpanConverter
from otel_posthog.runtime.log import warn_once

if TYPE_CHECKING:
    from otel_posthog.delivery.spool.spool import Spool

MIN_LEASE_SECONDS = 60.0
"""The shortest lease of an entry of the spool."""


def build_pipeline(config: Config, own_rates: Mapping[str, Rates] | None) -> Pipeline:
    """Return the conversion of these options."""
    rates = config.sample_rate
    is_sampled = min(rates.values()) < 1
    prices = PriceBook(own_rates) if config.cost == "client" or is_sampled else None
    return Pipeline(
        families=config.events,
        content=config.capture_content,
        private_features=config.private_features,
        content_sample_rate=config.content_sample_rate,
        media=_media(config.media),
        features=FeatureRules(config.features) if config.features else None,
        pseudonym_key=config.hash_user_ids.encode() if config.hash_user_ids is not None else None,
        redact=_redact(config.redact),
        prices=prices if config.cost == "client" else None,
        sampling=(
            Sampling(rates=rates, keep_cost=config.sample_keep_cost, prices=prices) if is_sampled else None
        ),
    )


def build_converter(config: Config, pipeline: Pipeline, mask: MaskHook | None) -> SpanConverter:
    """Return what makes events of spans: the pipeline, the hooks and the mask."""
    hooks = (getattr(config.client, "before_send", None), config.before_send)
    return SpanConverter(
        pipeline,
        super_properties=dict(getattr(config.client, "super_properties", None) or {}),
        hooks=[hook for hook in hooks if hook is not None],
        mask=mask,
        max_field_bytes=config.max_content_bytes,
    )


def build_client(config: Config, transport: Transport | None, project: str) -> DeliveryClient:
    """Return the client that sends events to the project of these options."""
    return DeliveryClient(
        DeliveryOptions(
            api_key=config.api_key or "",
            endpoint=ingestion_host(config.endpoint),
            timeout=config.timeout,
            compression=config.compression,
            capture_mode=config.capture_mode,
            max_batch_bytes=config.max_batch_bytes,
            max_retry_seconds=config.max_retry_seconds,
            historical_migration=bool(getattr(config.client, "historical_migration", False)),
            project=project,
        ),
        transport=transport,
    )


def _patience(config: Config) -> float:
    """Return the seconds for one batch: a request on each of two routes."""
    return 2 * config.timeout


def open_spool(config: Config, *, drops_oldest: bool) -> Spool | None:
    """Return the spool of these options, or None without `spool_dir`."""
    if config.spool_dir is None:
        return None
    from otel_posthog.delivery.spool.spool import Spool

    return Spool(
        config.spool_dir,
        destination_of(config.api_key or ""),
        max_bytes=config.spool_max_bytes,
        lease_seconds=max(MIN_LEASE_SECONDS, 2 * _patience(config)),
        drops_oldest=drops_oldest,
    )


def build_backlog(
    config: Config, spool: Spool | None, client: DeliveryClient, converter: SpanConverter
) -> Backlog:
    """Return what sends the entries of the spool."""
    return Backlog(
        spool,
        client,
        converter,
        max_batch_bytes=config.max_batch_bytes,
        patience=_patience(config),
        max_age=config.max_age,
    )


def build_outbox(
    config: Config,
    client: DeliveryClient,
    converter: SpanConverter,
    backlog: Backlog,
    durable: bool,
) -> Outbox:
    """Return the queue in memory, with the thread that sends it."""
    return Outbox(
        client,
        converter,
        backlog,
        max_queue_bytes=config.max_queue_bytes,
        max_batch_bytes=config.max_batch_bytes,
        flush_interval=config.flush_interval,
        always=durable,
    )


def _media(option: str | Callable[..., Any]) -> MediaReplacer | None:
    """Return the function behind the option `media`."""
    if isinstance(option, str):
        return None if option == "full" else placeholder

    def store(data: bytes, mime_type: str | None) -> str | None:
        try:
            url: str | None = option(data, mime_type)
        except Exception as error:  # noqa: BLE001  # the application's code
            warn_once("media", "media: the function raised %s: a placeholder is sent.", type(error).__name__)
            return None
        return url

    return storing(store)


def _redact(kinds: Mapping[str, str | None] | None) -> Redactor | None:
    """Return the function behind the option `redact`: built-in kinds, and patterns of the application."""
    if kinds is None:
        return None
    own = {name: pattern for name, pattern in kinds.items() if pattern is not None}
    return redactor(kinds.keys() - own.keys(), own)


def read_own_prices(config: Config) -> Mapping[str, Rates] | None:
    """Return the application's own prices.

    Raises:
        ValueError: the file cannot be read or is wrong; the text says why, and in which line.
    """
    if config.prices is None:
        return None
    try:
        text = config.prices.read_text(encoding="utf-8")
        return read_prices(text, toml=config.prices.suffix.lower() == ".toml")
    except (OSError, ValueError) as error:
        raise ValueError(f"prices: {config.prices.name}: {error}") from None
