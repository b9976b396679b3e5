package main

// The ranking of the PostgreSQL store, in SQL.

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/lib/pq"
)

// askedTerms is a question with the weights of its terms.
type askedTerms struct {
	question *question
	weighted []weightedTerm
}

// explain returns the words of the question with their weights in a chunk. lex is the chunk's sparsevec.
func (a askedTerms) explain(lex string) []wordWeight {
	stored := parseSparseVector(lex)
	weights := make(map[term]float64)
	for _, t := range a.weighted {
		weights[t.term] = float64(t.weight) * stored[t.term]
	}
	return a.question.explain(weights)
}

// searchLegs ranks by both legs: see searchSQL.
func (p *postgres) searchLegs(
	ctx context.Context,
	tx *transaction,
	q query,
	asked askedTerms,
	vector []float32,
) ([]hit, error) {
	f := p.frequencies.Load()
	isExact := sql.NullBool{Bool: f.chunks <= p.exactChunks, Valid: q.prefix == ""}
	terms := make([]int64, len(asked.weighted))
	for i, t := range asked.weighted {
		terms[i] = int64(t.term)
	}

	all, err := txRows(ctx, tx, (*legRow).columns, searchSQL,
		sparseVector(asked.weighted),
		pq.Array(vector),
		likePrefix(q.prefix),
		isExact,
		f.selectingTerms(asked.weighted),
		p.vectorWeight,
		p.embedder.minCosine(),
		q.limit,
		p.exactChunks,
		pq.Array(terms),
		int64(asked.question.title),
		titleBonus(p.vectorWeight),
		q.explain)
	if err != nil {
		return nil, err
	}

	hits := make([]hit, 0, len(all))
	for _, r := range all {
		h := r.scoredHit()
		if q.explain {
			r.why.Words = asked.explain(r.lex.String)
			h.Why = &r.why
		}
		hits = append(hits, h)
	}
	return hits, nil
}

// legRow is a row of searchSQL.
type legRow struct {
	hit   hit
	why   why
	twins []string       // ids of the documents with the hit's text, its own among them
	lex   sql.NullString // the chunk's lexical vector
}

// scoredHit returns the hit with its score and its twins.
func (r *legRow) scoredHit() hit {
	h := r.hit
	h.Score = r.why.Lexical + r.why.Vector + r.why.Title
	h.setTwins(r.twins)
	return h
}

func (r *legRow) columns() []any {
	return []any{
		&r.hit.Document,
		&r.hit.Title,
		&r.hit.Heading,
		&r.hit.slug,
		&r.hit.Line,
		&r.hit.Text,
		&r.why.Lexical,
		&r.why.Vector,
		&r.why.Title,
		pq.Array(&r.twins),
		&r.lex,
	}
}

// searchSQL ranks in these steps:
//   - narrow: whether there are so few chunks that each can be scored
//   - lexical, vector: the best chunks of each leg
//   - legs: the 100 best of each, without those of documents that repeat another's text
//   - scaled: their scores, scaled to 0..1 within the leg; the vector leg's times its weight
//   - best: the best chunk of each text in each leg
//   - fused: the texts by the sum of the two, with the chunk that contributes more
//   - titled: the texts whose title is the query
//   - ranked: both together
//
// Each leg has an exact branch, which scores every chunk, and a branch that uses its index. The
// condition on narrow does not depend on a row, so the branch not taken costs nothing. OFFSET 0 keeps
// the planner from computing a score twice, and from using the vector index in the exact branch.
//
// Its parameters are:
//   - $1 the query's lexical vector
//   - $2 the query's embedding, or NULL
//   - $3 LIKE pattern of the ids
//   - $4 whether to take the exact branches; NULL: if at most $9 chunks match $3
//   - $5 terms that select the candidates of the lexical leg
//   - $6 weight of the vector leg
//   - $7 minimum cosine for a chunk to count as found if its document has none of $10
//   - $8 maximum number of documents
//   - $9 exactChunks
//   - $10 the terms of the query
//   - $11 titleKey of the query
//   - $12 titleBonus
//   - $13 whether to return the chunks' lexical vectors
const searchSQL = `
WITH narrow AS MATERIALIZED (
	SELECT coalesce($4::boolean, (
		SELECT count(*) <= $9 FROM (SELECT FROM chunks WHERE document LIKE $3 LIMIT $9 + 1) AS few
	)) AS yes
),

lexical AS MATERIALIZED (
	(SELECT * FROM (
		SELECT document, position, -(lex <#> $1) AS score FROM chunks
		WHERE (SELECT yes FROM narrow) AND document LIKE $3 OFFSET 0
	) AS every
	WHERE score > 0 ORDER BY score DESC, document, position LIMIT 400)
	UNION ALL
	(SELECT * FROM (
		SELECT document, position, -(lex <#> $1) AS score FROM chunks
		WHERE NOT (SELECT yes FROM narrow) AND document LIKE $3 AND slots && $5::int[] OFFSET 0
	) AS candidates
	WHERE score > 0 ORDER BY score DESC, document, position LIMIT 400)
),

vector AS MATERIALIZED (
	(SELECT * FROM (
		SELECT document, position, -(embedding <#> $2::real[]::halfvec) AS score FROM embeddings
		WHERE (SELECT yes FROM narrow) AND document LIKE $3
			AND $2::real[] IS NOT NULL AND embedding IS NOT NULL OFFSET 0
	) AS every
	ORDER BY score DESC, document, position LIMIT 400)
	UNION ALL
	(SELECT document, position, -(embedding <#> $2::real[]::halfvec) AS score FROM embeddings
	WHERE NOT (SELECT yes FROM narrow) AND document LIKE $3 AND $2::real[] IS NOT NULL
	ORDER BY embedding <#> $2::real[]::halfvec LIMIT 100)
),

legs AS (
	SELECT * FROM (
		SELECT *, row_number() OVER (PARTITION BY leg ORDER BY score DESC, document, position) AS place
		FROM (
			SELECT leg, etag, position, min(document) AS document, max(score) AS score
			FROM (
				SELECT 1 AS leg, * FROM lexical UNION ALL SELECT 2, * FROM vector
			) AS both_legs
			JOIN documents ON id = document
			GROUP BY leg, etag, position
		) AS texts
	) AS placed
	WHERE place <= 100
),

scaled AS (
	SELECT leg, etag, document, position, leg = 1 OR score >= $7 AS found,
		CASE leg WHEN 1 THEN 1.0 ELSE $6::float8 END * coalesce(
			(score - min(score) OVER w) / nullif(max(score) OVER w - min(score) OVER w, 0), 1) AS part
	FROM legs WINDOW w AS (PARTITION BY leg)
),

best AS (
	SELECT DISTINCT ON (etag, leg) * FROM scaled ORDER BY etag, leg, part DESC, position
),

fused AS (
	SELECT etag, min(document) AS document, bool_or(found) AS found,
		coalesce(sum(part) FILTER (WHERE leg = 1), 0) AS lexical,
		coalesce(sum(part) FILTER (WHERE leg = 2), 0) AS vector,
		(array_agg(position ORDER BY part DESC, leg DESC))[1] AS position
	FROM best GROUP BY etag
),

titled AS (
	SELECT etag, min(id) AS document, $12::float8 AS title FROM documents
	WHERE title_key = $11 AND $11 <> 0 AND chunks > 0 AND id LIKE $3 GROUP BY etag
),

ranked AS (
	SELECT etag, coalesce(f.document, t.document) AS document, coalesce(position, 0) AS position,
		coalesce(lexical, 0) AS lexical, coalesce(vector, 0) AS vector, coalesce(title, 0) AS title
	FROM fused AS f FULL JOIN titled AS t USING (etag)
	WHERE title > 0 OR found OR EXISTS (
		SELECT FROM chunks AS c WHERE c.document = f.document AND c.slots && $10::int[]
	)
	ORDER BY coalesce(lexical, 0) + coalesce(vector, 0) + coalesce(title, 0) DESC, document
	LIMIT $8
)

SELECT r.document, d.title, c.heading, c.slug, c.line, c.text, r.lexical, r.vector, r.title,
	(SELECT array_agg(t.id) FROM documents AS t WHERE t.etag = r.etag AND t.id LIKE $3),
	CASE WHEN $13 THEN c.lex::text END
FROM ranked AS r
JOIN documents AS d ON d.id = r.document
JOIN chunks AS c ON c.document = r.document AND c.position = r.position
ORDER BY r.lexical + r.vector + r.title DESC, r.document`

// searchPhrases ranks by the lexical leg alone, among the chunks that contain the phrases. SQL selects
// the chunks that have all of their words.
func (p *postgres) searchPhrases(
	ctx context.Context,
	tx *transaction,
	q query,
	asked askedTerms,
) ([]hit, error) {
	required := []int64{} // not nil: NULL would match nothing
	for _, t := range asked.question.required() {
		required = append(required, int64(t))
	}

	columns := func(r *phraseRow) []any {
		return []any{&r.Document, &r.Title, &r.Heading, &r.slug, &r.Line, &r.Text, &r.etag, &r.Score, &r.lex}
	}
	all, err := txRows(ctx, tx, columns, `
		SELECT document, title, heading, slug, line, c.text, etag, -(lex <#> $1) AS score,
			CASE WHEN $5 THEN lex::text END
		FROM chunks AS c JOIN documents ON id = document
		WHERE document LIKE $2 AND slots @> $3::int[] AND lex <#> $1 < 0
		ORDER BY score DESC, document, position LIMIT $4`,
		sparseVector(asked.weighted),
		likePrefix(q.prefix),
		pq.Array(required),
		phraseCandidates,
		q.explain)
	if err != nil {
		return nil, err
	}

	all = slices.DeleteFunc(all, func(r phraseRow) bool {
		return !asked.question.matches(r.Title, r.Heading, r.Text)
	})
	return phraseHits(all, q, asked), nil
}

// phraseRow is a chunk that contains the phrases of a query.
type phraseRow struct {
	hit
	etag string
	lex  sql.NullString
}

// phraseHits returns the best chunk of each text, with scores scaled to 0..1 as in the other searches.
// rows are sorted by descending score.
func phraseHits(rows []phraseRow, q query, asked askedTerms) []hit {
	twins := make(map[string][]string) // ids by entity tag
	var texts []phraseRow              // the best chunks, each text once
	var legs []phraseRow               // the chunks of the first document of each text
	for _, r := range rows {
		ids := twins[r.etag]
		if ids == nil {
			texts = append(texts, r)
		}
		if ids == nil || ids[0] == r.Document {
			legs = append(legs, r)
		}
		if !slices.Contains(ids, r.Document) {
			twins[r.etag] = append(ids, r.Document)
		}
	}

	hits := []hit{}
	legs = legs[:min(len(legs), legSize)]
	for _, r := range texts[:min(len(texts), q.limit)] {
		best := legs[0].Score
		worst := legs[len(legs)-1].Score
		if r.Score < worst {
			break
		}
		share := 1.0
		if best > worst {
			share = (r.Score - worst) / (best - worst)
		}
		r.Score = share
		r.setTwins(twins[r.etag])
		if q.explain {
			r.Why = &why{Words: asked.explain(r.lex.String), Lexical: share}
		}
		hits = append(hits, r.hit)
	}
	return hits
}

// likePrefix returns the LIKE pattern of strings that begin with prefix.
func likePrefix(prefix string) string {
	escaper := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)
	return escaper.Replace(prefix) + "%"
}
