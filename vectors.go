package main

// The missing vectors of the embedded store's entries, and how they are computed: some at a time, so that the
// texts and vectors of a large document are never in memory together.

import (
	"cmp"
	"iter"
	"slices"
)

// embedGroup is how many chunks are embedded at once.
const embedGroup = 256

// setMissing sets the missing vectors of entries to what embed returns for their texts, until embed returns no vector.
// It returns how many it has set, and the first error of embed.
func setMissing(
	entries []*entry, embed func(texts []string) ([][]float32, error),
) (set int, err error) {
	var texts []string
	var places []vectorPlace
	// flush embeds the texts collected so far, and reports whether to go on.
	flush := func() (more bool) {
		vectors, failure := embed(texts)
		for i, v := range vectors {
			if v != nil {
				places[i].entry.setVector(places[i].chunk, v)
				set++
			}
		}
		texts = texts[:0]
		places = places[:0]
		err = cmp.Or(err, failure)
		return failure == nil || !isEmpty(vectors)
	}

	for _, e := range entries {
		for i, scale := range e.scales {
			if scale != noVector {
				continue
			}
			texts = append(texts, e.input(i))
			places = append(places, vectorPlace{e, i})
			if len(texts) < embedGroup {
				continue
			}
			if !flush() {
				return set, err
			}
		}
	}
	flush()
	return set, err
}

// vectorPlace is a chunk of an entry.
type vectorPlace struct {
	entry *entry
	chunk int
}

// isIncomplete reports whether a chunk of e has no vector.
func (e *entry) isIncomplete() bool { return slices.Contains(e.scales, noVector) }

// entryGroups returns the incomplete ones of entries in groups of about embedGroup chunks.
func entryGroups(entries []*entry) iter.Seq[[]*entry] {
	return func(yield func([]*entry) bool) {
		var group []*entry
		chunks := 0
		for _, e := range entries {
			if !e.isIncomplete() {
				continue
			}
			group = append(group, e)
			chunks += len(e.scales)
			if chunks < embedGroup {
				continue
			}
			if !yield(group) {
				return
			}
			group = nil
			chunks = 0
		}
		if len(group) > 0 {
			yield(group)
		}
	}
}
