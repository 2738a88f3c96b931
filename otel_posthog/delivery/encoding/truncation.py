"""Cuts an event that is over its limit: the longest strings first, then lists and objects of small items.

Every cut leaves a note with the amount that is missing, so that the rest is not mistaken for the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from otel_posthog.delivery.encoding.json_encoder import jsonable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIN_EVENT_BYTES = 8 * 1024  # the smallest limit: below it ids, model and tokens would not fit
_ENVELOPE_BYTES = 4096  # for everything but `properties`: name, uuid, distinct id, timestamp
_LONG_STRING = 256  # characters; ids and names stay whole while there is a longer string
_SMALL_ITEM = 64  # bytes; an item of a list or object is dropped rather than cut below this
_MIME = 100  # characters at the start of a data URI that hold its type
_NOTE_BYTES = 64  # the longest note, with quotes, key and comma


def escaped_size(data: bytes) -> int:
    """Return the size of `data` as a JSON string inside JSON, in bytes.

    PostHog rust/capture puts an event into its Kafka message this way, so the limit of that message
    (`message.max.bytes`, 1,000,000) counts every quote and backslash twice.
    """
    return len(data) + data.count(b'"') + data.count(b"\\")


def fit(data: bytes, limit: int, size: Callable[[bytes], int] = len) -> bytes:
    """Return the encoded event `data`, cut as little as possible so that its `size` is at most `limit`.

    `limit` is in bytes and at least `MIN_EVENT_BYTES`. The result is valid JSON. An event that fits is
    returned unchanged.
    """
    result = data
    target = limit
    for _ in range(4):
        measured = size(result)
        if measured <= limit:
            return result
        # The rest has more quotes per byte than the part that was cut: lower the target by the excess.
        target = min(target, len(result) * limit // measured)
        result = _cut_event(data, target)
    return result if size(result) <= limit else _cut_event(data, limit // 2)


def cut_value(value: Any, limit: int) -> Any:
    """Return one property's value in at most `limit` bytes as JSON; unchanged if it fits.

    `limit` is 256 or more. Images are cut first, then the longest strings, then lists and objects, each with
    a note.
    """
    try:
        data = orjson.dumps(value)
    except TypeError:
        data = orjson.dumps(jsonable(value))
    if len(data) <= limit:
        return value
    holder = {"value": orjson.loads(data)}
    _cut_strings(holder, limit)
    return _prune(holder["value"], limit)


def _cut_event(data: bytes, limit: int) -> bytes:
    event = orjson.loads(data)
    holder = {"properties": event.pop("properties", {})}
    envelope = _prune(event, min(_ENVELOPE_BYTES, limit // 2))
    room = limit - len(orjson.dumps(envelope)) - len(b',"properties":')
    _cut_strings(holder, room)
    return orjson.dumps({**envelope, "properties": _prune(holder["properties"], room)})


def _cut_strings(holder: dict[str, Any], room: int) -> None:
    """Cut the longest strings in `holder`, all to one length, so that its only value takes `room` bytes."""
    [whole] = holder.values()
    excess = len(orjson.dumps(whole)) - room
    for length, node, key in sorted(_long_strings(holder), key=lambda each: each[0], reverse=True):
        if excess <= 0:
            return
        note = _media_note(node[key])
        if note is not None:  # half an image shows nothing; the largest go first
            node[key] = note
            excess -= length - len(orjson.dumps(note))
    if excess <= 0:
        return
    strings = sorted(_long_strings(holder), key=lambda each: each[0], reverse=True)
    level = _water_level([each[0] for each in strings], excess)
    for length, node, key in strings:
        if length <= level:
            break
        node[key] = cut_text(node[key], level)


def _media_note(text: str) -> str | None:
    """Return the note that replaces a data URI; None if `text` is none."""
    head, separator, _ = text[:_MIME].partition(";base64,")
    if not separator or not head.startswith("data:"):
        return None
    return f"[{head[5:] or 'file'}: {(len(text) - len(head) - len(separator)) * 3 // 4} bytes, cut to fit]"


def _long_strings(root: Any) -> Iterator[tuple[int, Any, Any]]:
    nodes = [root]
    while nodes:
        node = nodes.pop()
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, str):
                if len(value) > _LONG_STRING:
                    yield len(orjson.dumps(value)), node, key
            elif isinstance(value, (dict, list)):
                nodes.append(value)


def _water_level(lengths: list[int], excess: int) -> int:
    """Return the length to which the first of `lengths` (falling) must be cut to remove `excess`."""
    total = 0
    for count, length in enumerate(lengths, 1):
        total += length
        level = (total - excess) // count
        if count == len(lengths) or level >= lengths[count]:
            return max(level, _LONG_STRING)
    return _LONG_STRING


def cut_text(text: str, limit: int) -> str:
    """Return the beginning of `text` with a note of how much was cut, at most `limit` bytes as JSON.

    `limit` must leave room for the note: 64 bytes do.
    """
    encoded = orjson.dumps(text)
    if len(encoded) <= limit:
        return text
    end = max(limit - _NOTE_BYTES, 1)
    # The end may be inside a character or an escape, each at most six bytes long.
    for stop in range(end, max(end - 6, 0), -1):
        try:
            start: str = orjson.loads(encoded[:stop] + b'"')
        except orjson.JSONDecodeError:
            continue
        return f"{start}…[cut: {len(text) - len(start)} characters]"
    return f"…[cut: {len(text)} characters]"


def _prune(value: Any, room: int) -> Any:
    """Return `value` in at most `room` (64 or more) bytes: small parts stay whole, others get a share."""
    if isinstance(value, str):
        return cut_text(value, room)
    if not isinstance(value, (dict, list)) or len(orjson.dumps(value)) <= room:
        return value
    if isinstance(value, dict):
        keys = list(value)
        names = [len(orjson.dumps(key)) + 2 for key in keys]  # with colon and comma
        costs = [name + len(orjson.dumps(each)) for name, each in zip(names, value.values(), strict=True)]
        # PostHog's own small properties (`$ai_trace_id`, ...) make the event what it is.
        order = sorted(
            range(len(keys)),
            key=lambda at: (not (keys[at].startswith("$") and costs[at] <= _LONG_STRING), costs[at]),
        )
    else:
        keys = list(range(len(value)))
        names = [1] * len(keys)
        costs = [1 + len(orjson.dumps(each)) for each in value]
        # Room for every item: each gets a share. Too many items: the first and the last are kept.
        many = room // len(keys) < _SMALL_ITEM
        order = _ends_first(len(keys)) if many else sorted(range(len(keys)), key=costs.__getitem__)
    kept = _share(value, [*zip(keys, names, costs, strict=True)], order, room - 2 - _NOTE_BYTES)
    if isinstance(value, dict):
        result = {key: kept[at] for at, key in enumerate(keys) if at in kept}
        if len(kept) < len(keys):
            result["…"] = f"[cut: {len(keys) - len(kept)} items]"
        return result
    items = [kept[at] for at in sorted(kept)]
    if len(kept) < len(keys):
        gap = next(at for at in keys if at not in kept)
        items.insert(gap, f"…[cut: {len(keys) - len(kept)} items]")
    return items


def _share(value: Any, parts: list[tuple[Any, int, int]], order: list[int], room: int) -> dict[int, Any]:
    """Return the kept parts of `value` by position, assigned in `order` from `room` bytes.

    Each of `parts` is a key or index, the bytes around its value (name, colon, comma), and all its bytes.
    """
    kept: dict[int, Any] = {}
    for served, at in enumerate(order):
        key, around, cost = parts[at]
        share = min(room, max(room // (len(order) - served), _LONG_STRING))
        if cost <= share:
            kept[at] = value[key]
            room -= cost
        elif share - around >= _NOTE_BYTES:
            kept[at] = _prune(value[key], share - around)
            room -= around + len(orjson.dumps(kept[at]))
    return kept


def _ends_first(count: int) -> list[int]:
    return [at // 2 if at % 2 == 0 else count - 1 - at // 2 for at in range(count)]
