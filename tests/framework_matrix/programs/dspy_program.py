"""DSPy, which calls models through LiteLLM."""

from stage import FAIL, HELLO, MODEL, WEATHER, below_a_server, drain, get_weather, run

import dspy

dspy.configure(lm=dspy.LM(f"openai/{MODEL}", cache=False, num_retries=0, temperature=1.0, max_tokens=16_000))


def chat():
    dspy.settings.lm(HELLO)


def predict():
    dspy.Predict("question -> answer")(question=HELLO)


def chain_of_thought():
    dspy.ChainOfThought("question -> answer")(question=HELLO)


def agent():
    dspy.ReAct("question -> answer", tools=[get_weather])(question=WEATHER)


async def predict_async():
    await dspy.Predict("question -> answer").acall(question=HELLO)


async def predict_stream():
    await drain(dspy.streamify(dspy.Predict("question -> answer"))(question=HELLO))


def in_threads():
    each = [
        (dspy.Predict("question -> answer"), dspy.Example(question=HELLO).with_inputs("question"))
        for _ in range(2)
    ]
    dspy.Parallel(num_threads=2, disable_progress_bar=True)(each)


def embedding():
    dspy.Embedder("openai/text-embedding-3-small", caching=False)([HELLO])


def failing():
    dspy.Predict("question -> answer")(question=FAIL)


run(
    chat,
    predict,
    chain_of_thought,
    agent,
    predict_async,
    predict_stream,
    below_a_server(agent),
    in_threads,
    embedding,
    failing,
)
