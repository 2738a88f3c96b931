"""CrewAI."""

from stage import FAIL, HELLO, MODEL, WEATHER, below_a_server, get_weather, run

from crewai import LLM, Agent, Crew, Task
from crewai.flow.flow import Flow, listen, start
from crewai.tools import tool


@tool("get_weather")
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return get_weather(city)


def model(name=MODEL, **options):
    return LLM(model=f"openai/{name}", max_retries=0, **options)


def crew_of(llm, text):
    agent = Agent(
        role="Reporter",
        goal="Report.",
        backstory="You report.",
        llm=llm,
        tools=[weather],
        verbose=False,
        max_retry_limit=0,
    )
    return Crew(
        agents=[agent],
        tasks=[Task(description=text, expected_output="A sentence.", agent=agent)],
        verbose=False,
    )


def chat():
    model().call(HELLO)


def stream():
    model(stream=True).call(HELLO)


def agent():
    crew_of(model(), WEATHER).kickoff()


def agent_stream():
    crew_of(model(stream=True), WEATHER).kickoff()


async def agent_async():
    await crew_of(model(), HELLO).kickoff_async()


def agent_two_tasks():
    crew = crew_of(model(), HELLO)
    crew.tasks.append(Task(description=HELLO, expected_output="A sentence.", agent=crew.agents[0]))
    crew.kickoff()


def flow():
    class Day(Flow):
        @start()
        def first(self):
            return model().call(HELLO)

        @listen(first)
        def second(self, said):
            return model().call(HELLO)

    Day().kickoff()


def failing():
    crew_of(model(), FAIL).kickoff()


run(chat, stream, agent, agent_stream, agent_async, agent_two_tasks, flow, below_a_server(agent), failing)
