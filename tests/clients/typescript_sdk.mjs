// Does with the TypeScript SDK what each line of standard input asks for, as JSON:
// {"method": …, "arguments": […]}, answered by {"value": …} or {"error": …}.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { CLIENTS, OPTIONS } = process.env;
const { SandboxClient } = createRequire(`${CLIENTS}/package.json`)("tensorlake");

// What the SDK logs must not be taken for an answer.
console.log = console.info = console.warn = console.error;
const client = new SandboxClient(JSON.parse(OPTIONS), true);
let tunnel;

// Calls inside a sandbox whose values are no JSON.
const inside = {
  async read(sandbox, path) {
    return Buffer.from(await sandbox.readFile(path)).toString("base64");
  },
  async write(sandbox, path, content) {
    await sandbox.writeFile(path, Buffer.from(content, "base64"));
  },
  async feed(sandbox, pid, content) {
    await sandbox.writeStdin(pid, Buffer.from(content, "base64"));
    await sandbox.closeStdin(pid);
  },
  async follow(sandbox, pid) {
    const lines = [];
    for await (const event of sandbox.followOutput(pid)) lines.push(event.line);
    return lines;
  },
};

const own = {
  async inside(sandbox, method, ...values) {
    const connected = await client.connect(sandbox);
    try {
      return await (inside[method] ? inside[method](connected, ...values) : connected[method](...values));
    } finally {
      connected.close();
    }
  },
  async health(sandbox) {
    const connected = await client.connect(sandbox);
    try {
      return await connected.health();
    } finally {
      connected.close();
    }
  },
  async openTunnel(sandbox, port) {
    tunnel = await (await client.connect(sandbox)).createTunnel(port, { localPort: 0 });
    return tunnel.localPort ?? tunnel.address().port;
  },
  async closeTunnel() {
    await tunnel?.close();
    tunnel = undefined;
  },
  async fetch(url, headers) {
    const response = await fetch(url, { headers });
    return { status: response.status, text: await response.text() };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { method, arguments: values } = JSON.parse(line);
  let answer;
  try {
    const result = await (own[method] ?? client[method].bind(client))(...values);
    // Some calls answer with a trace id around the value.
    answer = { value: result?.traceId && "value" in result ? result.value : result };
  } catch (error) {
    answer = { error: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
