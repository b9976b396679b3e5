package main

// The attributes of a record and of its stages: what the views show besides names and times.

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
)

// maxAttrs bounds the attributes of a record, and those of a stage.
const maxAttrs = 32

// spanAttrs adds attributes to the stage of ctx. It is for values that are not known when the stage begins. Of several
// values of a key, the last one stays.
func spanAttrs(ctx context.Context, attrs ...slog.Attr) {
	s := currentScope(ctx)
	if s == nil || s.stage < 0 {
		return
	}
	boundAttrs(attrs)
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	st := &s.record.stages[s.stage]
	for _, a := range attrs {
		at := indexAttr(st.attrs, a.Key)
		switch {
		case at >= 0:
			st.attrs = slices.Clone(st.attrs) // other stages may share them
			st.attrs[at] = a
		case len(st.attrs) < maxAttrs:
			st.attrs = append(st.attrs, a)
		}
	}
}

// logAttrs adds attributes to the log line of ctx's record. A key that the record has already is counted: see addAttr.
func logAttrs(ctx context.Context, attrs ...slog.Attr) {
	s := currentScope(ctx)
	if s == nil {
		return
	}
	boundAttrs(attrs)
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	for _, a := range attrs {
		s.record.addAttr(a)
	}
}

// addAttr adds an attribute. The messages of a batch and the lines of a bulk load have the same keys. The numbers of one
// key are added up. Of other values, the first one stays, and an attribute with _count at its end says how many there
// were. The caller holds rec.mu.
func (rec *record) addAttr(a slog.Attr) {
	at := indexAttr(rec.attrs, a.Key)
	size := attrBytes(a)
	isFull := len(rec.attrs) == maxAttrs || rec.attrBytes+size > maxAttrsBytes
	switch {
	case at < 0 && isFull:
		rec.droppedAttrs++
	case at < 0:
		rec.attrBytes += size
		rec.attrs = append(rec.attrs, a)
	case a.Value.Kind() == slog.KindInt64 && rec.attrs[at].Value.Kind() == slog.KindInt64:
		sum := rec.attrs[at].Value.Int64() + a.Value.Int64()
		rec.attrs[at].Value = slog.Int64Value(sum)
	case a.Value.Kind() == slog.KindBool: // it says that something has happened at all
	default:
		rec.countAttr(a.Key + "_count")
	}
}

// countAttr adds one to the count of an attribute. Without a count, this is the second occurrence.
func (rec *record) countAttr(key string) {
	count := slog.Int(key, 1)
	if indexAttr(rec.attrs, key) < 0 {
		count = slog.Int(key, 2)
	}
	rec.addAttr(count)
}

// indexAttr returns the place of the attribute with this key, -1 if there is none.
func indexAttr(attrs []slog.Attr, key string) int {
	return slices.IndexFunc(attrs, func(a slog.Attr) bool { return a.Key == key })
}

// reportError returns the problem that the caller sees for err, and adds err itself to the log line of ctx's record. If
// the server is at fault, it marks the record as failed.
func reportError(ctx context.Context, err error) problem {
	logAttrs(ctx, slog.String("error", err.Error()))
	p := publicError(err)
	if p.status >= http.StatusInternalServerError {
		markFailed(ctx, err)
	}
	return p
}

// markFailed marks ctx's record as failed by the server's fault, so that its trace is kept. The first error counts.
func markFailed(ctx context.Context, err error) {
	s := currentScope(ctx)
	if s == nil {
		return
	}
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	s.record.failure = cmp.Or(s.record.failure, errorType(err))
}

// attr returns the value of an attribute, the zero value if the stage has none of that key.
func (st *stageRecord) attr(key string) slog.Value {
	for _, a := range st.attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return slog.Value{}
}

// text returns the value of a string attribute, else "".
func (st *stageRecord) text(key string) string {
	v := st.attr(key)
	if v.Kind() != slog.KindString {
		return ""
	}
	return v.String()
}
