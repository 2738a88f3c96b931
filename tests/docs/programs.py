"""Programs that run with the blocks of the pages: applications that call models, after or under a set-up."""

from __future__ import annotations

from collections.abc import Mapping

CALL = """
from openai import OpenAI
from otel_posthog import ai_context

with ai_context(feature="smart_reply", user_id="user_42"):
    OpenAI().chat.completions.create(
        model="gpt-5-mini",
        messages=[{"role": "user", "content": "jane@example.com, E123456, order 12345678"}],
    )
"""

ANSWER = """
from openai import OpenAI

def answer_the_user():
    OpenAI().chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "Hello"}])
    return "done"
"""

BELOW_A_SERVER_SPAN = (
    ANSWER
    + """
from opentelemetry import trace

with trace.get_tracer("web").start_as_current_span("GET", attributes={"http.route": "/memes/42"}):
    answer_the_user()
"""
)

BELOW_A_FRAMEWORKS_SPAN = (
    ANSWER
    + """
from opentelemetry import trace

attributes = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-5-mini"}
tracer = trace.get_tracer("openinference.instrumentation.langchain")
with tracer.start_as_current_span("ChatOpenAI", attributes=attributes):
    answer_the_user()
"""
)

IN_ANOTHER_SERVICE = (
    ANSWER
    + """
from opentelemetry import context, propagate, trace
from otel_posthog import ai_context

headers = {}
with ai_context(feature="smart_reply", user_id="user_42", chat_id="chat-7"):
    with trace.get_tracer("web").start_as_current_span("GET"):
        propagate.inject(headers)
token = context.attach(propagate.extract(headers))
answer_the_user()
context.detach(token)
"""
)

FASTAPI = (
    ANSWER
    + """
from fastapi.testclient import TestClient

app.get("/meme", name="meme")(lambda: answer_the_user())
assert TestClient(app).get("/meme", headers={"X-User": "user_42"}).status_code == 200
"""
)

FLASK = (
    ANSWER
    + """
app.secret_key = "x"
app.add_url_rule("/meme", "meme", answer_the_user)
client = app.test_client()
with client.session_transaction() as cookie:
    cookie["user_id"] = "user_42"
assert client.get("/meme").status_code == 200
"""
)

DJANGO = (
    ANSWER
    + """
import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    MIDDLEWARE=MIDDLEWARE,
    ROOT_URLCONF=__name__,
    SECRET_KEY="x",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from otel_posthog import configure

configure()
urlpatterns = [path("meme", lambda request: HttpResponse(answer_the_user()), name="meme")]
call_command("migrate", verbosity=0)
client = Client()
client.force_login(User.objects.create(pk=7, username="jane"))
assert client.get("/meme").status_code == 200
"""
)

CELERY = (
    ANSWER
    + """
from celery.contrib.testing.worker import start_worker
from otel_posthog import ai_context

answer = app.task(name="answer")(answer_the_user)
with start_worker(app, pool="threads", perform_ping_check=False):
    with ai_context(feature="meme", user_id="user_42"):
        sent = answer.delay()
    sent.get(timeout=30)
"""
)

TWO_FEATURES = (
    ANSWER
    + """
from otel_posthog import ai_context

for feature in ("tldr", "meme"):
    with ai_context(feature=feature):
        answer_the_user()
"""
)

PROGRAMS: Mapping[str, str] = {
    "answer_the_user": ANSWER,
    "call": CALL,
    "call below a framework's span": BELOW_A_FRAMEWORKS_SPAN,
    "call below a server span": BELOW_A_SERVER_SPAN,
    "call in another service": IN_ANOTHER_SERVICE,
    "celery": CELERY,
    "django": DJANGO,
    "fastapi": FASTAPI,
    "flask": FLASK,
    "two features": TWO_FEATURES,
    "killed": CALL + "import os; os.kill(os.getpid(), 9)\n",
}
