// Reads a folder of documents with parsers of others: node reference.mjs FOLDER
// Prints for each document, by its id: the title of its front matter, whether that keeps it from readers, and the headings,
// as [line, level, words, place]. Headings are without ids, comments and template tags, which no site shows.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import MarkdownIt from "markdown-it";
import { parse as parseTOML } from "smol-toml";
import { isMap, isScalar, parseDocument } from "yaml";

const markdown = new MarkdownIt({ html: true });

// hidden is what authors write into headings and sites do not show. Code comes first: it is left as it is.
const hidden = /(`+)[^`].*?\1|<!--.*?-->|\{\/\*.*?\*\/\}|\{\{[<%].*?[>%]\}\}|\{%.*?%\}|\{:?[ \t]*[.#][^}]*\}|\[\^[^\]\s]+\]|:(?:material|fontawesome|octicons|simple)-[\w-]+:/gs;

const oneLine = (text) => text.split(/[\s\p{Cc}]+/u).filter(Boolean).join(" ");

// words returns the text of inline Markdown. references has the link definitions of the document.
function words(source, references) {
	const shown = source.replace(hidden, (all, mark) => (mark ? all : ""));
	const [inline] = markdown.parseInline(shown, references);
	return oneLine(textOf(inline.children));
}

function textOf(tokens) {
	return tokens.map((token) => {
		switch (token.type) {
			case "softbreak":
			case "hardbreak":
				return " ";
			case "image":
				return textOf(token.children);
			case "html_inline":
				return "";
			default:
				return token.content;
		}
	}).join("");
}

// frontMatter returns the fields of the front matter and the number of its lines.
function frontMatter(text) {
	const yaml = text.match(/^---[ \t]*\r?\n([^]*?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|$(?![^]))/m);
	if (yaml?.index === 0) {
		return { fields: yamlFields(yaml[1]), matter: yaml[0] };
	}
	const toml = text.match(/^\+\+\+[ \t]*\r?\n([^]*?)^\+\+\+[ \t]*(?:\r?\n|$(?![^]))/m);
	if (toml?.index === 0) {
		return { fields: parseTOML(toml[1]), matter: toml[0] };
	}
	const json = text.match(/^\{\s*"[^]*?\n\}[ \t]*(?:\r?\n|$)/);
	if (json) {
		return { fields: JSON.parse(json[0]), matter: json[0] };
	}
	return { fields: {}, matter: "" };
}

// yamlFields keeps plain scalars as they are written: a title 1.0 is "1.0".
function yamlFields(block) {
	const parsed = parseDocument(block, { uniqueKeys: false, version: "1.1", logLevel: "silent" });
	const fields = {};
	for (const pair of isMap(parsed.contents) ? parsed.contents.items : []) {
		const { key, value } = pair;
		const isText = isScalar(value) && value.value !== null && typeof value.value !== "boolean";
		fields[key.value ?? key] = isText ? value.source ?? value.value : value?.toJS(parsed);
	}
	return fields;
}

const field = (fields, name) => Object.entries(fields).findLast(([key]) => key.toLowerCase() === name)?.[1];

const truths = new Set(["true", "yes", "on"]);
const lies = new Set(["false", "no", "off"]);

// isUnpublished says whether the fields keep a document from readers.
function isUnpublished(fields) {
	const is = (name, set) => set.has(String(field(fields, name) ?? "").toLowerCase());
	const search = field(fields, "search");
	return ["draft", "unlisted", "noindex"].some((name) => is(name, truths)) || is("published", lies) || is("search", lies) ||
		search === "exclude" || truths.has(String(search?.exclude).toLowerCase());
}

// headings returns those of Markdown, and those of the first level in HTML. The place is "html", or "top" or "inside" a block.
function headings(text) {
	const references = {};
	const tokens = markdown.parse(text, references);
	const found = [];
	tokens.forEach((token, i) => {
		const isTop = token.level === 0;
		const html = isTop && token.type === "html_block" && token.content.match(/<h1\b[^>]*>(.*?)<\/h1>/is);
		if (html) {
			found.push([token.map[0] + 1, 1, words(html[1], references), "html"]);
		}
		if (token.type === "heading_open") {
			found.push([token.map[0] + 1, Number(token.tag[1]), words(tokens[i + 1].content, references), isTop ? "top" : "inside"]);
		}
	});
	return found.filter(([, , shown]) => shown);
}

function read(name) {
	const text = readFileSync(name, "utf8").replace(/^\ufeff/, "");
	const { fields, matter } = frontMatter(text);
	return {
		title: oneLine(String(field(fields, "title") ?? "")),
		unpublished: isUnpublished(fields),
		headings: headings(matter.replace(/[^\n]/g, "") + text.slice(matter.length)),
	};
}

const [folder] = process.argv.slice(2);
const isDocument = (name) => /\.(md|markdown|mdx)$/i.test(name) && !/(^|\/)(\.|node_modules\/|vendor\/|_site\/)/.test(name);
const ids = readdirSync(folder, { recursive: true, withFileTypes: true })
	.filter((entry) => entry.isFile())
	.map((entry) => join(entry.parentPath, entry.name).slice(join(folder, "/").length))
	.filter(isDocument).sort();
console.log("{");
console.log(ids.map((id) => `${JSON.stringify(id)}: ${JSON.stringify(read(join(folder, id)))}`).join(",\n"));
console.log("}");
