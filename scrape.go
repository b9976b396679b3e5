package main

// GET /metrics. The metrics are collected at most once a second, and a collection is encoded once for all scrapers
// that send the same headers and query. Scrapers that are many, or read slowly, do not keep others waiting.

import (
	"bytes"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// scrapeLifetime is how long a collection answers scrapes. Prometheus scrapes every few seconds.
	scrapeLifetime = time.Second

	// maxScrapeAnswers is the number of answers that a collection keeps. Clients choose the headers and the filter, so
	// there may be any number of different ones. Each of the others is encoded for its own scrape.
	maxScrapeAnswers = 8
)

// scrapes answers GET /metrics.
type scrapes struct {
	gather   func() *collection
	lifetime time.Duration

	mu   sync.Mutex
	last *collection
}

// collection is the state of the metrics at one moment. They are gathered for the first answer.
type collection struct {
	began   time.Time
	encode  http.Handler
	answers map[scrapeFormat]func() *scrapeAnswer
}

// scrapeFormat is what of a scrape decides how its answer is encoded.
type scrapeFormat struct {
	accept   string
	encoding string
	query    string // may have the filter name[]
}

// scrapes returns the handler of GET /metrics. It calls report before it collects the metrics.
func (m *metrics) scrapes(log *slog.Logger, report func()) *scrapes {
	opts := promhttp.HandlerOpts{
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:     promhttp.ContinueOnError,
		EnableOpenMetrics: true,
	}
	gather := func() *collection {
		began := time.Now()
		report()
		families := sync.OnceValues(m.registry.Gather)
		return &collection{
			began:   began,
			encode:  promhttp.HandlerFor(prometheus.GathererFunc(families), opts),
			answers: make(map[scrapeFormat]func() *scrapeAnswer),
		}
	}
	return &scrapes{gather: gather, lifetime: scrapeLifetime}
}

// ServeHTTP answers with a collection that is at most a second old. It holds no lock while the client reads.
func (s *scrapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := s.answer(r)
	answer().write(w)
}

// answer returns a function that returns the answer to r. The first call of it encodes the answer.
func (s *scrapes) answer(r *http.Request) func() *scrapeAnswer {
	format := scrapeFormat{
		accept:   r.Header.Get("Accept"),
		encoding: strings.Join(r.Header.Values("Accept-Encoding"), ","),
		query:    r.URL.RawQuery,
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || time.Since(s.last.began) >= s.lifetime {
		s.last = s.gather()
	}
	answer := s.last.answers[format]
	if answer != nil {
		return answer
	}

	encode := s.last.encode
	answer = sync.OnceValue(func() *scrapeAnswer {
		answer := &scrapeAnswer{header: make(http.Header), status: http.StatusOK}
		encode.ServeHTTP(answer, r)
		return answer
	})
	if len(s.last.answers) < maxScrapeAnswers {
		s.last.answers[format] = answer
	}
	return answer
}

// scrapeAnswer is an encoded answer. It is an http.ResponseWriter, so that promhttp writes into it.
type scrapeAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *scrapeAnswer) Header() http.Header            { return a.header }
func (a *scrapeAnswer) WriteHeader(status int)         { a.status = status }
func (a *scrapeAnswer) Write(part []byte) (int, error) { return a.body.Write(part) }

// write sends the answer to a client. Many clients may get it at the same time.
func (a *scrapeAnswer) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(a.body.Len()))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // a client that has gone needs no answer
}
