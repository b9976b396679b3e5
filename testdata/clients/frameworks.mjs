// Tries vitrine with agent frameworks and with bridges to stdio: node frameworks.mjs URL
// Each connects, lists the tools, searches, reads a document and a resource, and closes.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMCPClient } from "@ai-sdk/mcp";
import { MultiServerMCPClient } from "@langchain/mcp-adapters";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { MCPServerSSE, MCPServerStreamableHttp } from "@openai/agents";

const [url] = process.argv.slice(2);
const tools = ["search_docs", "list_documents", "get_document"];
const search = { query: "restore a file", limit: 3, prefix: "guide/" };
const id = "guide/install.md";
const uri = `docs:///${id}`;

// check fails unless all answers have what the documents have. Each is a value that contains the answer somewhere.
function check({ names, found, read, listed, resource }) {
	for (const tool of tools) assert.ok(names.includes(tool), `no ${tool} in ${names}`);
	for (const [answer, wanted] of [[found, "guide/restore-files.md"], [read, "quoted documentation"], [listed, uri], [resource, "systemctl enable"]]) {
		assert.ok(JSON.stringify(answer).includes(wanted), `no ${wanted} in ${JSON.stringify(answer)?.slice(0, 300)}`);
	}
}

// checkClient tries a connected client that has the methods of the TypeScript SDK.
async function checkClient(client) {
	check({
		names: (await client.listTools()).tools.map((tool) => tool.name),
		found: await client.callTool({ name: "search_docs", arguments: search }),
		read: await client.callTool({ name: "get_document", arguments: { id } }),
		listed: await client.listResources(),
		resource: await client.readResource({ uri }),
	});
	await client.close();
}

const aiSDK = async (type, path) => checkClient(await createMCPClient({ transport: { type, url: url + path } }));

async function langchain(transport, path) {
	const client = new MultiServerMCPClient({ docs: { transport, url: url + path, automaticSSEFallback: false } });
	const offered = await client.getTools();
	const call = (name, args) => offered.find((tool) => tool.name.endsWith(name)).invoke(args);
	check({
		names: offered.map((tool) => tool.name),
		found: await call("search_docs", search),
		read: await call("get_document", { id }),
		listed: await client.listResources(),
		resource: await client.readResource("docs", uri),
	});
	await client.close();
}

async function openAI(Server, path) {
	const server = new Server({ url: url + path, name: "docs", cacheToolsList: true });
	await server.connect();
	check({
		names: (await server.listTools()).map((tool) => tool.name),
		found: await server.callTool("search_docs", search),
		read: await server.callTool("get_document", { id }),
		listed: await server.listResources(),
		resource: await server.readResource(uri),
	});
	await server.close();
}

// bridge speaks stdio with a program that speaks HTTP with vitrine.
async function bridge(program, ...args) {
	const config = mkdtempSync(join(tmpdir(), "bridge-"));
	const client = new Client({ name: "frameworks.mjs", version: "1" });
	try {
		const env = { ...process.env, MCP_REMOTE_CONFIG_DIR: config };
		await client.connect(new StdioClientTransport({ command: process.execPath, args: [`node_modules/${program}`, ...args], env, stderr: "ignore" }));
		await checkClient(client);
	} finally {
		await client.close();
		rmSync(config, { recursive: true });
	}
}
const remote = (path, ...args) => bridge("mcp-remote/dist/proxy.js", url + path, "--allow-http", ...args);
const gateway = (flag, path) => bridge("supergateway/dist/index.js", flag, url + path, "--logLevel", "none");

// probe asks as Codex does before it connects: for a stream that it does not want, and for an authorization server.
// Each answer must end, or the session begins seconds late.
async function probe() {
	const ask = async (path, headers, want) => {
		const answer = await fetch(url + path, { headers, signal: AbortSignal.timeout(2000) });
		await answer.text();
		assert.equal(answer.status, want, `${path} ${JSON.stringify(headers)}`);
	};
	const old = { "MCP-Protocol-Version": "2024-11-05" };
	await ask("/mcp", {}, 405);
	await ask("/mcp", { Accept: "*/*" }, 405);
	await ask("/mcp", { Accept: "*/*", ...old }, 405);
	await ask("/mcp", { Accept: "text/event-stream", ...old }, 405);
	for (const path of ["/.well-known/oauth-authorization-server/mcp", "/.well-known/oauth-protected-resource/mcp", "/mcp/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server"]) {
		await ask(path, old, 404);
	}
}

const attempts = {
	"AI SDK, Streamable HTTP": () => aiSDK("http", "/mcp"),
	"AI SDK, HTTP+SSE": () => aiSDK("sse", "/sse"),
	"LangChain, Streamable HTTP": () => langchain("http", "/mcp"),
	"LangChain, HTTP+SSE": () => langchain("sse", "/sse"),
	"OpenAI Agents, Streamable HTTP": () => openAI(MCPServerStreamableHttp, "/mcp"),
	"OpenAI Agents, HTTP+SSE": () => openAI(MCPServerSSE, "/sse"),
	"mcp-remote, by default": () => remote("/mcp"),
	"mcp-remote, Streamable HTTP with a header": () => remote("/mcp", "--transport", "http-only", "--header", "Authorization: Bearer x"),
	"mcp-remote, HTTP+SSE": () => remote("/sse", "--transport", "sse-only"),
	"supergateway, Streamable HTTP": () => gateway("--streamableHttp", "/mcp"),
	"supergateway, HTTP+SSE": () => gateway("--sse", "/sse"),
	"Codex' probe": probe,
};
for (const [name, attempt] of Object.entries(attempts)) {
	const began = Date.now();
	const timeout = new Promise((_, reject) => setTimeout(() => reject(new Error("no end after 120 s")), 120_000).unref());
	try {
		await Promise.race([attempt(), timeout]);
		console.log(`ok   ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
	} catch (error) {
		console.log(`FAIL ${name}: ${error.stack}`);
		process.exitCode = 1;
	}
}
process.exit(); // whatever a failed attempt left open
