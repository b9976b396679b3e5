package main

// The tool report_gap, with which an agent reports that the documents lack something.

import (
	"context"
	"log/slog"
	"math"
	"time"
)

// reportTools has the tool report_gap.
var reportTools = []tool{
	{
		Name: "report_gap",
		Description: "Report a problem with {documentation} to its authors: " +
			"a question that it does not answer, or a page that is wrong, outdated or unclear. " +
			"Report problems only, after a search, and nothing personal or secret.",
		Input: schema(`{"type":"object","properties":{
			"question":{"type":"string","description":"what you wanted to know","minLength":1,"maxLength":%d,"pattern":"%s"},
			"problem":{"type":"string","enum":%s,"description":"what is wrong with the documentation"},
			"document":{"type":"string","description":"id of the document with the problem, if there is one","maxLength":%d}},
			"required":["question","problem"],"additionalProperties":false}`,
			maxReportChars,
			notBlank,
			mustJSON(reportProblems),
			maxIDBytes,
		),
		Annotations: map[string]bool{
			"readOnlyHint":    false,
			"destructiveHint": false,
			"idempotentHint":  false,
			"openWorldHint":   false,
		},
		call: (*server).reportGap,
	},
}

// reportGap keeps a report for GET /debug/gaps.
func (s *server) reportGap(ctx context.Context, a *arguments) (toolResult, error) {
	question := a.query("question", maxReportChars)
	problem := a.choice("problem", reportProblems)
	document := a.idText("document")
	if err := a.check("question", "problem", "document"); err != nil {
		return toolResult{}, err
	}

	// A report of a document that does not exist helps nobody: the error names the nearest ids.
	if document != "" {
		if _, err := s.namedDocument(ctx, document); err != nil {
			return toolResult{}, err
		}
	}

	wait := s.gaps.limits.take(clientOf(ctx), time.Now())
	if wait > 0 {
		return toolResult{}, toolErrorf(
			"too many reports: go on without reporting, or try again in %.0f s",
			math.Ceil(wait.Seconds()))
	}
	s.gaps.report(ctx, question, problem, document)

	s.logReport(ctx, question, problem, document)
	const thanks = "reported to the authors of the documentation"
	return textResult(markdown(thanks)), nil
}

// logReport logs a report. The line has the question only at level debug, as for searches.
func (s *server) logReport(ctx context.Context, question, problem, document string) {
	attrs := []slog.Attr{
		slog.String("problem", problem),
	}
	add := func(key, value string) {
		attrs = append(attrs, slog.String(key, value))
	}

	if document != "" {
		add("document", document)
	}
	if s.log.Enabled(ctx, slog.LevelDebug) {
		add("question", question)
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "gap reported", attrs...)
}
