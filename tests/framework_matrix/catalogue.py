"""The frameworks of the matrix, and for each the ways in which its spans may be made. ADD A FRAMEWORK HERE.

Beside a row stand its program in `programs/` and its versions in `constraints/`, both by the row's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent

_SHOW_CONTENT = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"}


@dataclass(frozen=True, eq=False)
class Way:
    """One set-up: what is switched on beside our instrumentors."""

    name: str
    call: str = ""  # "module:name", called, and its `instrument()` if it has one
    processor: str = ""  # "module:name" of a span processor that stands before ours
    environment: Mapping[str, str] = field(default_factory=dict)
    tells_agents: bool = True  # whether it makes spans of agents, so that their calls have one head
    zero_code: bool = False  # nothing in the program: `opentelemetry-instrument` switches all on
    unseen: Sequence[
        str
    ] = ()  # scenarios whose requests nobody sees: the framework sends them without an SDK
    does_not_load: str = ""  # why the instrumentation cannot be tried with these versions


@dataclass(frozen=True, eq=False)
class Framework:
    """One framework."""

    name: str  # of its program, constraints and environment
    title: str
    package: str  # whose version is shown
    requirements: Sequence[str]
    ways: Sequence[Way]
    language: str = "python"

    @property
    def program(self) -> Path:
        """Return the file of its scenarios."""
        return HERE / "programs" / f"{self.name}_program.{'mjs' if self.language == 'node' else 'py'}"

    @property
    def constraints(self) -> Path:
        """Return the file of its versions."""
        return HERE / "constraints" / f"{self.name}.txt"


def _alone(*, tells_agents: bool = False) -> Way:
    return Way("alone", tells_agents=tells_agents)


def _zero_code(*disabled: str, name: str = "built in, one-line use") -> Way:
    """Return the way without code; `disabled` are instrumentors that are there for another way."""
    # Traceloop's of the SDKs come with the product, and are in every environment.
    off = ",".join(("openai", "google-generativeai", *disabled))
    return Way(name, environment={"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": off}, zero_code=True)


def _openinference(path: str, *, tells_agents: bool = True) -> Way:
    return Way("OpenInference", call=f"openinference.instrumentation.{path}", tells_agents=tells_agents)


def _openinference_processor(path: str, call: str = "") -> Way:
    return Way("OpenInference", call=call, processor=f"openinference.instrumentation.{path}")


def _openllmetry(path: str, *, tells_agents: bool = True) -> Way:
    return Way("OpenLLMetry", call=f"opentelemetry.instrumentation.{path}", tells_agents=tells_agents)


def _official(path: str, *, tells_agents: bool = True) -> Way:
    return Way(
        "OpenTelemetry",
        f"opentelemetry.instrumentation.genai.{path}",
        "",
        _SHOW_CONTENT,
        tells_agents=tells_agents,
    )


FRAMEWORKS: Sequence[Framework] = (
    Framework(
        "langchain",
        "LangChain, LangGraph",
        "langchain",
        (
            "langchain",
            "langgraph",
            "langchain-openai",
            "langchain-google-genai",
            "langsmith[otel]",
            "openinference-instrumentation-langchain",
            "opentelemetry-instrumentation-langchain",
            "opentelemetry-instrumentation-genai-langchain",
        ),
        (
            _alone(),
            _openinference("langchain:LangChainInstrumentor"),
            _openllmetry("langchain:LangchainInstrumentor"),
            _official("langchain:LangChainInstrumentor"),
            Way(
                "LangSmith",
                environment={
                    "LANGSMITH_TRACING": "true",
                    "LANGSMITH_TRACING_MODE": "otel",
                    "LANGSMITH_API_KEY": "key-of-nobody",
                    "LANGSMITH_ENDPOINT": "http://127.0.0.1:9",
                },
            ),
            _zero_code(name="all three, one-line use"),
        ),
    ),
    Framework(
        "llamaindex",
        "LlamaIndex",
        "llama-index-core",
        (
            "llama-index-core",
            "llama-index-llms-openai",
            "llama-index-llms-google-genai",
            "llama-index-embeddings-openai",
            "openinference-instrumentation-llama-index",
            "opentelemetry-instrumentation-llamaindex",
            "opentelemetry-instrumentation-genai-llama-index",
        ),
        (
            _alone(),
            _openinference("llama_index:LlamaIndexInstrumentor"),
            _openllmetry("llamaindex:LlamaIndexInstrumentor"),
            _official("llama_index:LlamaIndexInstrumentor"),
        ),
    ),
    Framework(
        "openai_agents",
        "OpenAI Agents",
        "openai-agents",
        (
            "openai-agents",
            "openinference-instrumentation-openai-agents",
            "opentelemetry-instrumentation-openai-agents",
            "opentelemetry-instrumentation-genai-openai-agents",
        ),
        (
            _alone(),
            _openinference("openai_agents:OpenAIAgentsInstrumentor"),
            _openllmetry("openai_agents:OpenAIAgentsInstrumentor"),
            _official("openai_agents:OpenAIAgentsInstrumentor"),
        ),
    ),
    Framework(
        "pydantic_ai",
        "Pydantic AI",
        "pydantic-ai-slim",
        ("pydantic-ai-slim[openai,google]", "openinference-instrumentation-pydantic-ai"),
        (
            _alone(),
            Way("built in", call="pydantic_ai:Agent.instrument_all"),
            _openinference_processor(
                "pydantic_ai:OpenInferenceSpanProcessor", "pydantic_ai:Agent.instrument_all"
            ),
        ),
    ),
    Framework(
        "crewai",
        "CrewAI",
        "crewai",
        ("crewai", "openinference-instrumentation-crewai", "opentelemetry-instrumentation-crewai"),
        (
            _alone(),
            _openinference("crewai:CrewAIInstrumentor"),
            _openllmetry("crewai:CrewAIInstrumentor"),
        ),
    ),
    Framework(
        "litellm",
        "LiteLLM",
        "litellm",
        ("litellm", "openinference-instrumentation-litellm", "opentelemetry-instrumentation-litellm"),
        (
            Way(
                "alone",
                tells_agents=False,
                unseen=("responses", "responses_stream", "gemini_chat", "gemini_stream"),
            ),
            Way("built in", tells_agents=False),
            Way(
                "OpenInference",
                "openinference.instrumentation.litellm:LiteLLMInstrumentor",
                tells_agents=False,
            ),
            Way(
                "OpenLLMetry",
                "opentelemetry.instrumentation.litellm:LiteLLMInstrumentor",
                tells_agents=False,
                unseen=("responses", "responses_stream"),
            ),
        ),
    ),
    Framework(
        "google_adk",
        "Google ADK",
        "google-adk",
        ("google-adk>=2", "openinference-instrumentation-google-adk"),
        (
            Way("built in"),
            _openinference("google_adk:GoogleADKInstrumentor"),
            _zero_code("google_adk"),
        ),
    ),
    Framework(
        "dspy",
        "DSPy",
        "dspy",
        ("dspy[numpy]", "openinference-instrumentation-dspy", "opentelemetry-instrumentation-genai-dspy"),
        (_alone(), _openinference("dspy:DSPyInstrumentor"), _official("dspy:DSPyInstrumentor")),
    ),
    Framework(
        "haystack",
        "Haystack",
        "haystack-ai",
        (
            "haystack-ai",
            "opentelemetry-haystack",
            "openinference-instrumentation-haystack",
            "opentelemetry-instrumentation-haystack",
        ),
        (
            _alone(),
            Way("built in", environment={"HAYSTACK_CONTENT_TRACING_ENABLED": "true"}),
            _openinference("haystack:HaystackInstrumentor"),
            Way(
                "OpenLLMetry",
                does_not_load="it patches `haystack.components.generators.openai`, which Haystack 3 lacks",
            ),
        ),
    ),
    Framework(
        "smolagents",
        "smolagents",
        "smolagents",
        (
            "smolagents[openai]",
            "openinference-instrumentation-smolagents",
            "opentelemetry-instrumentation-genai-smolagents",
        ),
        (
            _alone(),
            _openinference("smolagents:SmolagentsInstrumentor"),
            _official("smolagents:SmolagentsInstrumentor"),
        ),
    ),
    Framework(
        "instructor",
        "Instructor",
        "instructor",
        ("instructor[google-genai]", "openinference-instrumentation-instructor"),
        (_alone(), _openinference("instructor:InstructorInstrumentor")),
    ),
    Framework(
        "agent_framework",
        "Microsoft Agent Framework",
        "agent-framework-core",
        ("agent-framework-core", "agent-framework-openai", "openinference-instrumentation-agent-framework"),
        (
            Way("built in"),
            Way("built in, with content", call="agent_framework.observability:enable_sensitive_telemetry"),
            _openinference_processor("agent_framework:AgentFrameworkToOpenInferenceProcessor"),
        ),
    ),
    Framework(
        "autogen",
        "AutoGen",
        "autogen-agentchat",
        ("autogen-agentchat", "autogen-ext[openai]", "openinference-instrumentation-autogen-agentchat"),
        (Way("built in"), _openinference("autogen_agentchat:AutogenAgentChatInstrumentor")),
    ),
    Framework(
        "strands",
        "Strands Agents",
        "strands-agents",
        ("strands-agents[openai,gemini]>=1.60", "openinference-instrumentation-strands-agents"),
        (
            Way("built in"),
            _openinference_processor("strands_agents:StrandsAgentsToOpenInferenceProcessor"),
        ),
    ),
    Framework(
        "semantic_kernel",
        "Semantic Kernel",
        "semantic-kernel",
        ("semantic-kernel",),
        (
            _alone(),
            Way(
                "built in",
                environment={
                    "SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS": "true",
                    "SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE": "true",
                },
            ),
        ),
    ),
    Framework(
        "mcp",
        "MCP",
        "mcp",
        ("mcp", "openinference-instrumentation-mcp", "opentelemetry-instrumentation-mcp"),
        (
            Way("built in"),
            _openinference("mcp:MCPInstrumentor"),
            Way(
                "OpenLLMetry",
                does_not_load="it patches `streamablehttp_client`, which MCP's SDK 2 no longer has",
            ),
        ),
    ),
    Framework(
        "vercel",
        "Vercel AI SDK",
        "ai",
        (),
        (Way("built in"), Way("built in, legacy", environment={"MATRIX_LEGACY": "1"})),
        language="node",
    ),
)
