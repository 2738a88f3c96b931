"""A small chat product: eight features, each a call to a model as such products make it.

It knows nothing of OpenTelemetry or PostHog, on purpose. Each feature takes the clients and the user's words,
and returns the text that the user would see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.genai import types

if TYPE_CHECKING:
    from collections.abc import Callable

    from google import genai
    from openai import OpenAI

OPENAI_LARGE, OPENAI_SMALL = "gpt-5.1", "gpt-5-mini"
GEMINI_FAST, GEMINI_IMAGE = "gemini-3-flash-preview", "gemini-3-pro-image-preview"

NO_SUCH_MODEL = "gpt-5-mini-unavailable"
"""No service has this model: the one call that fails, at the fake providers and at the real ones."""


@dataclass(frozen=True, slots=True)
class Clients:
    """The two real clients, wherever they point."""

    openai: OpenAI
    gemini: genai.Client


@dataclass(frozen=True, slots=True)
class Moment:
    """One action of a user: the chat and the words. `model` replaces the feature's own."""

    feature: str
    chat_id: str
    user_id: str
    words: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of the product: its model, and the function that calls it."""

    model: str
    ask: Callable[[Clients, str, str], str]
    """Takes the clients, the model and the user's words."""


def _messages(system: str, words: str) -> list[Any]:
    return [{"role": "system", "content": system}, {"role": "user", "content": words}]


def _auto_reply(clients: Clients, model: str, words: str) -> str:
    stream = clients.openai.chat.completions.create(
        model=model,
        messages=_messages("Write a short auto-reply in the voice of the user, who is away.", words),
        max_completion_tokens=400,
        stream=True,
        stream_options={"include_usage": True},
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def _mention(clients: Clients, model: str, words: str) -> str:
    answer = clients.openai.chat.completions.create(
        model=model, messages=_messages("You are @luna. Answer when you are mentioned.", words)
    )
    return answer.choices[0].message.content or ""


def _smart_replies(clients: Clients, model: str, words: str) -> str:
    answer = clients.openai.chat.completions.create(
        model=model,
        messages=_messages("Suggest three smart replies as a JSON array of strings.", words),
        max_completion_tokens=1000,
        reasoning_effort="low",
    )
    return answer.choices[0].message.content or ""


def _personal_chat(clients: Clients, model: str, words: str) -> str:
    history: list[Any] = [
        {"role": "user", "content": "Hi Luna, I had a long day."},
        {"role": "assistant", "content": "Then sit down with me for a moment. What happened?"},
    ]
    system, now = _messages("You are Luna, a warm and witty friend.", words)
    stream = clients.openai.chat.completions.create(
        model=model, messages=[system, *history, now], stream=True, stream_options={"include_usage": True}
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def _translation(clients: Clients, model: str, words: str) -> str:
    config = types.GenerateContentConfig(
        system_instruction="Translate into Spanish. Give the translation only."
    )
    return clients.gemini.models.generate_content(model=model, contents=words, config=config).text or ""


def _tldr(clients: Clients, model: str, words: str) -> str:
    config = types.GenerateContentConfig(system_instruction="Give a TL;DR of the chat in one sentence.")
    stream = clients.gemini.models.generate_content_stream(model=model, contents=words, config=config)
    return "".join(chunk.text or "" for chunk in stream)


def _picture(ratio: str, words: str) -> Callable[[Clients, str, str], str]:
    def ask(clients: Clients, model: str, user_words: str) -> str:
        config = types.GenerateContentConfig(
            response_modalities=["TEXT", "IMAGE"], image_config=types.ImageConfig(aspect_ratio=ratio)
        )
        answer = clients.gemini.models.generate_content(
            model=model, contents=f"{words} {user_words}", config=config
        )
        pictures = [part.inline_data for part in answer.parts or [] if part.inline_data]
        return ", ".join(f"[{picture.mime_type}, {len(picture.data or b''):,} bytes]" for picture in pictures)

    return ask


FEATURES: dict[str, Feature] = {
    "auto_reply": Feature(OPENAI_LARGE, _auto_reply),
    "mention": Feature(OPENAI_LARGE, _mention),
    "smart_replies": Feature(OPENAI_SMALL, _smart_replies),
    "image": Feature(GEMINI_IMAGE, _picture("1:1", "Draw this as a picture:")),
    "meme": Feature(GEMINI_IMAGE, _picture("16:9", "Make a meme with a caption about:")),
    "translation": Feature(GEMINI_FAST, _translation),
    "tldr": Feature(GEMINI_FAST, _tldr),
    "personal_chat": Feature(OPENAI_LARGE, _personal_chat),
}

#: An afternoon of the product, in order.
AFTERNOON: tuple[Moment, ...] = (
    Moment("auto_reply", "chat-surf", "user_maya", "Are you coming to the beach on Saturday?"),
    Moment("smart_replies", "chat-surf", "user_noah", "Suggest replies to: who brings the boards?"),
    Moment("mention", "chat-surf", "user_noah", "@luna when is high tide on Saturday?"),
    Moment(
        "translation", "chat-familia", "user_maya", "Translate: see you tomorrow at eight, bring the guitar."
    ),
    Moment(
        "personal_chat", "chat-luna-maya", "user_maya", "Hello Luna! Do you think I should learn to surf?"
    ),
    Moment(
        "tldr", "chat-launch", "user_omar", "Summarise: the launch moved to Thursday. Maria has the list."
    ),
    Moment("image", "chat-surf", "user_noah", "a cat on a surfboard at sunset"),
    Moment("smart_replies", "chat-launch", "user_omar", "Suggest replies to: can you own the checklist?"),
    Moment("auto_reply", "chat-launch", "user_omar", "Auto-reply to: is the deck ready?"),
    Moment("meme", "chat-launch", "user_lena", "tests that pass on the first run"),
    Moment("translation", "chat-familia", "user_noah", "Translate: dinner is ready, where are you?"),
    Moment("mention", "chat-launch", "user_lena", "@luna who owns the venue?"),
    Moment("personal_chat", "chat-luna-omar", "user_omar", "Tell me a joke, I need one."),
    Moment("smart_replies", "chat-surf", "user_maya", "Suggest replies to: is it cold?", model=NO_SUCH_MODEL),
    Moment(
        "tldr", "chat-surf", "user_maya", "Summarise: Noah brings boards, Maya brings the guitar, at eight."
    ),
    Moment("image", "chat-familia", "user_maya", "a guitar made of oranges"),
    Moment("auto_reply", "chat-familia", "user_maya", "Auto-reply to: call your grandmother!"),
    Moment("translation", "chat-launch", "user_lena", "Translate: the meeting starts at ten."),
    Moment("meme", "chat-surf", "user_noah", "checking the weather every five minutes"),
    Moment("mention", "chat-familia", "user_noah", "@luna what goes well with oranges?"),
    Moment("personal_chat", "chat-luna-lena", "user_lena", "Hi! What is the weather like where you are?"),
    Moment(
        "tldr", "chat-familia", "user_noah", "Summarise: dinner at nine, oranges for dessert, bring chairs."
    ),
    Moment("image", "chat-launch", "user_omar", "a rocket that is a checklist"),
    Moment("meme", "chat-familia", "user_maya", "grandmother finding the group chat"),
)


def do(clients: Clients, moment: Moment) -> str:
    """Return the answer to the user. Errors of the client are raised."""
    feature = FEATURES[moment.feature]
    return feature.ask(clients, moment.model or feature.model, moment.words)
