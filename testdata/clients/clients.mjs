// Tries vitrine with the TypeScript SDKs: node clients.mjs URL ADMIN_TOKEN
import assert from "node:assert/strict";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport as HTTPTransportV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ResourceListChangedNotificationSchema, ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { Client as ClientV2, StreamableHTTPClientTransport as HTTPTransportV2 } from "@modelcontextprotocol/client";

const [url, token] = process.argv.slice(2);
const identity = { name: "clients.mjs", version: "1" };

// put writes a document.
async function put(id, text) {
	const answer = await fetch(`${url}/documents/${id}`, { method: "PUT", body: text, headers: { Authorization: `Bearer ${token}` } });
	assert.ok(answer.ok, answer.statusText);
}

// within waits for a promise, but not for ever.
const within = (promise, what) =>
	Promise.race([promise, new Promise((_, reject) => setTimeout(() => reject(new Error(`no ${what} after 5 s`)), 5000).unref())]);

// features tries everything that is offered on any connection.
async function features(client) {
	const { tools } = await client.listTools();
	assert.deepEqual(tools.map((tool) => tool.name), ["search_docs", "list_documents", "get_document"]);
	const found = await client.callTool({ name: "search_docs", arguments: { query: "restore a file", limit: 3, prefix: "guide/" } });
	assert.ok(found.structuredContent.hits[0].document.startsWith("guide/"));
	const read = await client.callTool({ name: "get_document", arguments: { id: "guide/install.md" } });
	assert.match(read.content[0].text, /^\[begin .* of guide\/install\.md, /);
	const wrong = await client.callTool({ name: "get_document", arguments: { id: "no/such.md" } });
	assert.ok(wrong.isError);
	const { resources } = await client.listResources();
	assert.ok(resources.length > 30);
	const { contents } = await client.readResource({ uri: "docs:///guide/install.md" });
	assert.match(contents[0].text, /systemctl enable/);
	const { resourceTemplates } = await client.listResourceTemplates();
	const { completion } = await client.complete({ ref: { type: "ref/resource", uri: resourceTemplates[0].uriTemplate }, argument: { name: "id", value: "guide/in" } });
	assert.deepEqual(completion.values, ["guide/install.md"]);
	const { prompts } = await client.listPrompts();
	const prompt = await client.getPrompt({ name: prompts[0].name, arguments: { question: "How do I install it?" } });
	assert.match(prompt.messages[0].content.text, /How do I install it\?/);
	await assert.rejects(client.readResource({ uri: "docs:///no/such.md" }));
}

async function v1(transport, subscribes) {
	const client = new ClientV1(identity);
	await client.connect(transport);
	await features(client);
	await client.ping();
	const changed = new Promise((resolve) => client.setNotificationHandler(ResourceListChangedNotificationSchema, resolve));
	const updated = new Promise((resolve) => client.setNotificationHandler(ResourceUpdatedNotificationSchema, resolve));
	if (subscribes) await client.subscribeResource({ uri: "docs:///clients/v1.md" });
	await new Promise((resolve) => setTimeout(resolve, 300)); // the notification stream is opened behind our back
	await put("clients/v1.md", `# Written at ${Date.now()}\n`);
	await within(changed, "list_changed");
	if (subscribes) assert.equal((await within(updated, "updated")).params.uri, "docs:///clients/v1.md");
	await client.close();
}

async function v2(mode, listens) {
	const client = new ClientV2(identity, { versionNegotiation: { mode } });
	await client.connect(new HTTPTransportV2(new URL(`${url}/mcp`)));
	await features(client);
	if (listens) {
		const changed = new Promise((resolve) => client.setNotificationHandler("notifications/resources/list_changed", resolve));
		const updated = new Promise((resolve) => client.setNotificationHandler("notifications/resources/updated", resolve));
		const subscription = await client.listen({ resourcesListChanged: true, resourceSubscriptions: ["docs:///clients/v2.md"] });
		await put("clients/v2.md", `# Written at ${Date.now()}\n`);
		await within(changed, "list_changed");
		assert.equal((await within(updated, "updated")).params.uri, "docs:///clients/v2.md");
		await subscription.close();
	}
	await client.close();
}

const attempts = {
	"TypeScript SDK v1, Streamable HTTP": () => v1(new HTTPTransportV1(new URL(`${url}/mcp`)), false),
	"TypeScript SDK v1, HTTP+SSE": () => v1(new SSEClientTransport(new URL(`${url}/sse`)), true),
	"TypeScript SDK v2, initialize era": () => v2("legacy", false),
	"TypeScript SDK v2, negotiated": () => v2("auto", true),
	"TypeScript SDK v2, pinned to 2026-07-28": () => v2({ pin: "2026-07-28" }, true),
};
for (const [name, attempt] of Object.entries(attempts)) {
	try {
		await attempt();
		console.log(`ok   ${name}`);
	} catch (error) {
		console.log(`FAIL ${name}: ${error.stack}`);
		process.exitCode = 1;
	}
}
process.exit(); // whatever a failed attempt left open
