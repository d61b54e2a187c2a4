// What the Node SDKs make of each answer: `driver.mjs < cases > outcomes`.
// A case and an outcome are a line of JSON each; see ../../conformance_test.go.

import { createInterface } from "node:readline";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

async function ask(c) {
  const headers = { ...c.headers };
  if (c.do === "keyless") Object.assign(headers, { Authorization: null, "X-Api-Key": null });
  const options = { apiKey: c.key, baseURL: c.base, defaultHeaders: headers, timeout: 60_000 };
  const client = c.sdk === "openai" ? new OpenAI(options) : new Anthropic(options);
  if (c.do === "path") return client.get("/nothing-here");
  const params = {
    model: c.model,
    messages: [{ role: "user", content: c.size ? "x".repeat(c.size) : "hi" }],
    max_tokens: c.max ?? 8,
    ...c.body,
  };
  return c.sdk === "openai" ? client.chat.completions.create(params) : client.messages.create(params);
}

async function outcome(c) {
  try {
    await ask(c);
  } catch (e) {
    const error = c.sdk === "openai" ? e.error : e.error?.error;
    return {
      class: e.constructor.name, status: e.status ?? 0, code: error?.code ?? "", type: error?.type ?? "",
      message: error?.message ?? (e.status ? "" : String(e)), requestId: e.requestID ?? "", body: JSON.stringify(e.error ?? null),
    };
  }
  return { class: "none" };
}

// All at once: what one waits for must not pass while another one waits.
const outcomes = [];
for await (const line of createInterface({ input: process.stdin })) {
  const c = JSON.parse(line);
  outcomes.push(outcome(c).then((o) => JSON.stringify({ name: c.name, ...o })));
}
for (const o of outcomes) console.log(await o);
