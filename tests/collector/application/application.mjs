// A chat service in Node: OpenTelemetry's own SDK, and the Vercel AI SDK, which writes the spans. Each line of standard
// input is a number of calls to make; the answer is a line with their spans, once the Collector has accepted them.
import { createInterface } from "node:readline";
import { createOpenAI } from "@ai-sdk/openai";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";
import { embed, generateText, streamText } from "ai";

const ended = [];
const remember = {
  onStart() {},
  onEnd(span) {
    const { traceId, spanId } = span.spanContext();
    ended.push([traceId, spanId, span.attributes["ai.operationId"]]);
  },
  async forceFlush() {},
  async shutdown() {},
};

const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": "chat-in-node" }),
  spanProcessors: [remember, new BatchSpanProcessor(new OTLPTraceExporter())],
});
provider.register();

const openai = createOpenAI();
let calls = 0;

async function call(number) {
  const experimental_telemetry = { isEnabled: true, metadata: { user_id: `node_${number}`, feature: "node" } };
  const word = `hello from Node, number ${number}`;
  if (number % 3 === 0) {
    await embed({ model: openai.embedding("text-embedding-3-small"), value: word, experimental_telemetry });
  } else if (number % 3 === 1) {
    await generateText({ model: openai.chat("gpt-5.1"), prompt: word, experimental_telemetry });
  } else {
    await streamText({ model: openai("gpt-5.1"), prompt: word, experimental_telemetry }).consumeStream();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  for (let left = Number(line); left > 0; left -= 1) await call(calls++);
  await provider.forceFlush(); // fails, and ends all, where a span was not taken
  console.log(JSON.stringify(ended.splice(0)));
}
