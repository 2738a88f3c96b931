"""The application of the smoke run: one streamed call."""

from openai import OpenAI

from otel_posthog import ai_context

with ai_context(feature="smoke", user_id="user_42"):
    stream = OpenAI().chat.completions.create(
        model="gpt-5.1", messages=[{"role": "user", "content": "Say hello"}], stream=True
    )
    print("".join(chunk.choices[0].delta.content or "" for chunk in stream))
