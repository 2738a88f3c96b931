// Vercel's AI SDK: its spans go over OTLP to the gateway, and say themselves whose call it is.
import { appendFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// The packages are in the environment of the matrix, not beside this file.
const require = createRequire(`${process.env.MATRIX_PACKAGES}/`);
const load = async (name) => import(pathToFileURL(require.resolve(name)));

const { OTLPTraceExporter } = await load('@opentelemetry/exporter-trace-otlp-proto');
const { BatchSpanProcessor, NodeTracerProvider } = await load('@opentelemetry/sdk-trace-node');
const { trace } = await load('@opentelemetry/api');
const { Output, ToolLoopAgent, embed, generateText, registerTelemetry, stepCountIs, streamText, tool } = await load('ai');
const { createGoogleGenerativeAI } = await load('@ai-sdk/google');
const { createOpenAI } = await load('@ai-sdk/openai');
const { LegacyOpenTelemetry, OpenTelemetry } = await load('@ai-sdk/otel');
const { z } = await load('zod');

const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
provider.register();
registerTelemetry(process.env.MATRIX_LEGACY ? new LegacyOpenTelemetry() : new OpenTelemetry({ runtimeContext: true }));

globalThis.AI_SDK_LOG_WARNINGS = false;
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL });
const google = createGoogleGenerativeAI({ baseURL: `${process.env.MATRIX_PROVIDER}/v1beta`, apiKey: 'key-of-nobody' });
const MODEL = openai.chat('gpt-5-mini');
const HELLO = 'Say hello.';
const WEATHER = 'How is the weather in Paris? @call:get_weather';
const FAIL = 'Say hello. @fail:500';
const tools = {
  get_weather: tool({
    description: 'Tell the weather of a city.',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `It is sunny in ${city}.`,
  }),
};

const told = (feature) => ({
  telemetry: { functionId: feature, includeRuntimeContext: { userId: true, feature: true, chatId: true } },
  runtimeContext: { userId: 'user_42', feature, chatId: 'chat-7' },
  maxRetries: 0,
});
const drain = async (stream) => { for await (const _ of stream) ; };
const withTools = { tools, stopWhen: stepCountIs(3) };

const scenarios = {
  chat: () => generateText({ model: MODEL, prompt: HELLO, ...told('chat') }),
  stream: () => drain(streamText({ model: MODEL, prompt: HELLO, ...told('stream') }).textStream),
  agent_tools: () => generateText({ model: MODEL, prompt: WEATHER, ...withTools, ...told('agent_tools') }),
  agent_tools_stream: () => drain(streamText({ model: MODEL, prompt: WEATHER, ...withTools, ...told('agent_tools_stream') }).textStream),
  agent: () => new ToolLoopAgent({ id: 'weather_agent', model: MODEL, tools, ...told('agent') }).generate({ prompt: WEATHER, ...told('agent') }),
  agent_responses: () => generateText({ model: openai('gpt-5-mini'), prompt: WEATHER, ...withTools, ...told('agent_responses') }),
  responses_stream: () => drain(streamText({ model: openai('gpt-5-mini'), prompt: HELLO, ...told('responses_stream') }).textStream),
  structured: () => generateText({ model: MODEL, output: Output.object({ schema: z.object({ name: z.string() }) }), prompt: HELLO, ...told('structured') }),
  gemini_chat: () => generateText({ model: google('gemini-2.5-flash'), prompt: HELLO, ...told('gemini_chat') }),
  gemini_stream: () => drain(streamText({ model: google('gemini-2.5-flash'), prompt: HELLO, ...told('gemini_stream') }).textStream),
  agent_below_a_server: () => trace.getTracer('the.application').startActiveSpan('POST /chat', async (span) => {
    try {
      await generateText({ model: MODEL, prompt: WEATHER, ...withTools, ...told('agent_below_a_server') });
    } finally {
      span.end();
    }
  }),
  embedding: () => embed({ model: openai.embedding('text-embedding-3-small'), value: HELLO, ...told('embedding') }),
  failing: () => generateText({ model: MODEL, prompt: FAIL, ...told('failing') }),
};

const chosen = process.env.MATRIX_SCENARIOS ? process.env.MATRIX_SCENARIOS.split(',') : Object.keys(scenarios);
for (const scenario of chosen) {
  await fetch(`${process.env.MATRIX_PROVIDER}/_scenario`, { method: 'POST', body: JSON.stringify({ name: scenario }) });
  const started = Date.now();
  let problem = null;
  try {
    await scenarios[scenario]();
  } catch (error) {
    problem = `${error.name}: ${error.message}`.slice(0, 300);
  }
  const outcome = { scenario, problem, seconds: (Date.now() - started) / 1000 };
  appendFileSync(process.env.MATRIX_OUTCOMES, `${JSON.stringify(outcome)}\n`);
}
await provider.shutdown();
