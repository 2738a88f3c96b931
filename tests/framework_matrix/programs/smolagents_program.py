"""smolagents."""

from stage import FAIL, HELLO, MODEL, WEATHER, below_a_server, get_weather, run

from smolagents import CodeAgent, OpenAIServerModel, ToolCallingAgent, tool


@tool
def get_weather_of(city: str) -> str:
    """Tell the weather of a city.

    Args:
        city: a city
    """
    return get_weather(city)


ASKED = WEATHER.replace("@call:get_weather", "@call:get_weather_of")


def model():
    return OpenAIServerModel(model_id=MODEL, client_kwargs={"max_retries": 0}, retry=False)


def quiet(kind, **options):
    return kind(tools=[get_weather_of], model=model(), verbosity_level=0, max_steps=3, **options)


def said(text):
    return [{"role": "user", "content": [{"type": "text", "text": text}]}]


def chat():
    model().generate(said(HELLO))


def stream():
    list(model().generate_stream(said(HELLO)))


def agent():
    quiet(ToolCallingAgent).run(ASKED)


def agent_code():
    quiet(CodeAgent).run(ASKED)


def agent_stream():
    list(quiet(ToolCallingAgent, stream_outputs=True).run(ASKED, stream=True))


def failing():
    model().generate(said(FAIL))


run(chat, stream, agent, agent_code, agent_stream, below_a_server(agent), failing)
