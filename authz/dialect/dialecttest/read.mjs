// Reads bodies as servers in Node do: a line of JSON for each, in and out.

import { createInterface } from "node:readline";

async function values({ kind, type, body, field }) {
  const bytes = Buffer.from(body, "base64");
  if (kind === "json") {
    const document = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return Object.hasOwn(document, field) ? [document[field]] : [];
  }
  if (kind === "form") return new URLSearchParams(bytes.toString("utf8")).getAll(field);
  const form = await new Response(bytes, { headers: { "content-type": type } }).formData();
  return Promise.all(form.getAll(field).map((v) => (typeof v === "string" ? v : v.text())));
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { values: await values(JSON.parse(line)) };
  } catch (e) {
    answer = { error: String(e) };
  }
  console.log(JSON.stringify(answer));
}
