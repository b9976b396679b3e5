-- What the PostgreSQL store keeps. It is run once, in one transaction under an advisory lock; DIMENSIONS stands for the
-- length of the vectors. The two large indexes are built later: see buildIndexes.

-- One row: what the rest was made with, and what would be slow to count.
CREATE TABLE settings (
	one        boolean PRIMARY KEY DEFAULT true CHECK (one),
	schema     int     NOT NULL,
	analyzer   int     NOT NULL,
	model      text    NOT NULL,
	dimensions int     NOT NULL,
	changes    bigint  NOT NULL DEFAULT 0, -- transactions that changed documents
	documents  bigint  NOT NULL DEFAULT 0,
	chunks     bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 10); -- every write updates it: room for new versions of the row on its page

-- What one replica at a time does.
CREATE TABLE leases (
	name     text        PRIMARY KEY,
	holder   text        NOT NULL,
	expires  timestamptz NOT NULL,
	finished boolean     NOT NULL DEFAULT false -- the work has been done to its end at least once
);

CREATE TABLE documents (
	id        text COLLATE "C" PRIMARY KEY, -- so that LIKE 'guide/%' is a range of the index
	title     text        NOT NULL,
	title_key bigint      NOT NULL, -- identifies the title, however it is cased
	text      text        NOT NULL,
	etag      text        NOT NULL,
	bytes     int         NOT NULL,
	chunks    int         NOT NULL,
	indexed   int         NOT NULL DEFAULT 0, -- lines, if only the beginning is indexed
	source    text        NOT NULL CHECK (source IN ('folder', 'api')),
	updated   timestamptz NOT NULL
);
CREATE INDEX documents_title ON documents (title_key);
CREATE INDEX documents_indexed ON documents (indexed) WHERE indexed > 0; -- counts them
CREATE INDEX documents_etag ON documents (etag); -- finds documents with the same text

-- The words of all documents, for corrections and completions. Those of removed documents stay until vitrine -reindex.
CREATE TABLE words (
	word text COLLATE "C" PRIMARY KEY,
	term int              NOT NULL
);
CREATE INDEX words_term ON words (term);

CREATE TABLE chunks (
	document text COLLATE "C"     NOT NULL REFERENCES documents ON DELETE CASCADE,
	position int                  NOT NULL,
	heading  text                 NOT NULL,
	slug     text                 NOT NULL DEFAULT '', -- of the heading, for links
	line     int                  NOT NULL,
	text     text                 NOT NULL,
	slots    int[]                NOT NULL, -- the terms, sorted
	lex      sparsevec(536870912) NOT NULL, -- their weights; 2^termBits dimensions
	PRIMARY KEY (document, position)
);
-- Scoring reads slots and lex of many rows: if something must leave a row, let it be the text. STATISTICS 1000 keeps the
-- frequencies of 10,000 terms.
ALTER TABLE chunks
	ALTER slots SET STORAGE MAIN, ALTER lex SET STORAGE MAIN, ALTER text SET STORAGE EXTERNAL, ALTER slots SET STATISTICS 1000;

-- Apart from chunks so that neither ranking reads what only the other needs. A row without a vector waits for one.
CREATE TABLE embeddings (
	document  text COLLATE "C" NOT NULL,
	position  int              NOT NULL,
	input     bytea            NOT NULL, -- SHA-256 of what is embedded
	embedding halfvec(DIMENSIONS), -- half the size of vector, and the same ranking
	attempted timestamptz,
	PRIMARY KEY (document, position),
	FOREIGN KEY (document, position) REFERENCES chunks ON DELETE CASCADE
) WITH (toast_tuple_target = 8160); -- a vector stays in its row as long as that fits a page
ALTER TABLE embeddings ALTER embedding SET STORAGE EXTERNAL;
CREATE INDEX embeddings_input ON embeddings (input);
CREATE INDEX embeddings_missing ON embeddings (attempted NULLS FIRST) WHERE embedding IS NULL;
