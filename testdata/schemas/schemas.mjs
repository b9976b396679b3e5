// Tries the tools against their schemas: node schemas.mjs URL [SECONDS [SEED]]
// The property: arguments that validate against a tool's inputSchema are never refused, and what the tool answers
// validates against its outputSchema. Arguments that do not validate may be refused, but never fail.
import assert from "node:assert/strict";
import Ajv from "ajv/dist/2020.js";

const [url, seconds = "10", seedText] = process.argv.slice(2);
const seed = Number(seedText ?? Date.now() % 2 ** 32);
const batch = 40;

// random is mulberry32, so that a seed repeats a run.
let state = seed;
function random() {
	state = (state + 0x6d2b79f5) | 0;
	let t = Math.imul(state ^ (state >>> 15), 1 | state);
	t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
	return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const below = (n) => Math.floor(random() * n);
const pick = (list) => list[below(list.length)];
const chance = (p) => random() < p;

// rpc posts a message or a batch of the revision that has batches. text is its JSON.
async function rpc(text) {
	const headers = { "Content-Type": "application/json", "MCP-Protocol-Version": "2025-03-26" };
	const answer = await fetch(`${url}/mcp`, { method: "POST", body: text, headers });
	assert.equal(answer.status, 200, await answer.clone().text());
	return answer.json();
}
const callText = (id, name, args) => `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"name":"${name}","arguments":${args}}}`;

const { result: listed } = await rpc('{"jsonrpc":"2.0","id":1,"method":"tools/list"}');
const ajv = new Ajv({ strict: true, allErrors: false });
const tools = listed.tools.map((tool) => ({
	...tool,
	accepts: ajv.compile(tool.inputSchema),
	answers: tool.outputSchema && ajv.compile(tool.outputSchema),
}));
assert.ok(tools.some((tool) => tool.name === "report_gap"), "report_gap is not offered");

// Characters that the two sides may count, trim or refuse differently.
const characters = ["a", "b", " ", "é", "文", "\u0000", "\t", "\n", "\u0085", "\u00a0", "\ufeff", "\u2028", "\u202e", "\u3000",
	"\u001b", "\u007f", '"', "\\", "/", ".", "..", "%", "'", "😀", "\ud800", "\udc00", "\u0301", "\u200b", "\u2060", "\u180e", "\u00ad", "\u{e0041}", "-", "*", "(", "["];
const known = ["guide/install.md", "guide/", "install", "restore a file", "Install", "cli/restore.md", "README.md", "../x.md",
	"docs:///guide/install.md", "C:\\x.md", "", " ", "\u0000", "\u0085", "\ufeff", "\ud800", "__proto__", '"a phrase"', "a".repeat(20)];

function randomString(schema) {
	const limit = schema.maxLength ?? 300;
	if (schema.enum && chance(0.8)) return pick(schema.enum);
	if (chance(0.4)) return pick(known);
	const length = pick([0, 1, 2, below(20), limit - 1, limit, limit + 1]);
	const one = chance(0.5) ? [pick(characters)] : characters; // one character only, or many
	let text = "";
	for (let i = 0; i < length; i++) text += pick(one);
	return text;
}

function randomValue(schema) {
	if (chance(0.04)) return pick([null, true, 5, "5", 2.5, [], {}, "", [[]], { a: 1 }]);
	if (schema.type === "string") return randomString(schema);
	const { minimum, maximum } = schema;
	return pick([minimum, maximum, minimum - 1, maximum + 1, minimum + below(maximum), minimum + below(10), 0, -1, 1.5, 1e300]);
}

// cursors are those that list_documents has given out. It refuses any other, which no schema can tell.
const cursors = [];

function randomArguments(tool) {
	const { properties, required = [] } = tool.inputSchema;
	const args = {};
	for (const [name, schema] of Object.entries(properties)) {
		if (!chance(required.includes(name) ? 0.98 : 0.4)) continue;
		if (name !== "cursor") args[name] = randomValue(schema);
		else if (cursors.length > 0) args[name] = pick(cursors);
	}
	if (chance(0.03)) args[pick(["ID", "Query", "x", "", "toString"])] = 1;
	return args;
}

// encode writes integers in the other ways that JSON has.
function encode(args) {
	return JSON.stringify(args).replace(/:(\d{1,9})(?=[,}])/g, (_, n) => ":" + n + pick(["", "", ".0", "e0", "E+0", ".00e-0"]));
}

// Refusals of what is not there, or not now. They say nothing against the arguments.
const harmless = /^no document |^.* has no heading |^.* has \d+ lines: |^too many reports/s;

const counts = {};
const deadline = Date.now() + Number(seconds) * 1000;
while (Date.now() < deadline) {
	const calls = Array.from({ length: batch }, () => {
		const tool = pick(tools);
		const args = randomArguments(tool);
		return { tool, args, valid: tool.accepts(args) };
	});
	const answers = await rpc("[" + calls.map(({ tool, args }, i) => callText(i, tool.name, encode(args))).join(",") + "]");
	for (const { id, result, error } of answers) {
		const { tool, args, valid } = calls[id];
		const text = result?.content[0].text ?? JSON.stringify(error);
		const where = `${tool.name} ${JSON.stringify(args)}\nseed ${seed}: ${text.slice(0, 300)}`;
		assert.ok(result && !/internal error|cannot answer right now/.test(text), where);
		const kind = `${tool.name}: ${valid ? "valid" : "invalid"}, ${result.isError ? "refused" : "answered"}`;
		counts[kind] = (counts[kind] ?? 0) + 1;
		if (valid && result.isError) assert.match(text, harmless, where);
		if (tool.answers && !result.isError) assert.ok(tool.answers(result.structuredContent), where + ajv.errorsText(tool.answers.errors));
		if (result.structuredContent?.next_cursor) cursors[below(50)] = result.structuredContent.next_cursor;
		if (cursors.length > 0) cursors.splice(0, cursors.length, ...cursors.filter(Boolean));
	}
}
console.log(`seed ${seed}`);
for (const kind of Object.keys(counts).sort()) console.log(`${String(counts[kind]).padStart(7)}  ${kind}`);
for (const tool of tools) assert.ok(counts[`${tool.name}: valid, answered`] > 0, `${tool.name} has not answered`);
