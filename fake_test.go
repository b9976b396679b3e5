package main

// A fake embeddings API, whose answers a test can replace.

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// fakeEmbedder is an embeddings API. Its vectors count hashed words: texts that share words have similar vectors.
type fakeEmbedder struct {
	*httptest.Server
	dimensions int

	mu         sync.Mutex
	answer     fakeAnswer // nil: always vectors
	calls      []fakeRequest
	running    int // calls that are being answered
	maxRunning int
}

// fakeAnswer answers a call in place of the vectors. It returns false if it has written nothing: the call gets vectors.
type fakeAnswer func(w http.ResponseWriter, r *http.Request, in fakeRequest) bool

// fakeRequest is the body of a call, and its header.
type fakeRequest struct {
	Model      string   `json:"model"`
	Input      []string `json:"input"`
	Format     string   `json:"encoding_format"`
	Dimensions int      `json:"dimensions"`
	header     http.Header
}

func newFakeEmbedder(t testing.TB, dimensions int) *fakeEmbedder {
	f := &fakeEmbedder{dimensions: dimensions}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// env returns the settings that name this API, and then more.
func (f *fakeEmbedder) env(more ...string) []string {
	env := []string{
		"EMBEDDING_URL=" + f.URL + "/v1/embeddings",
		"EMBEDDING_MODEL=fake",
	}
	return append(env, more...)
}

// set replaces the answers. With nil, all calls get vectors again.
func (f *fakeEmbedder) set(answer fakeAnswer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// asked returns the texts of each call so far.
func (f *fakeEmbedder) asked() (texts [][]string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	for _, call := range f.calls {
		texts = append(texts, call.Input)
	}
	return texts
}

func (f *fakeEmbedder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in fakeRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.URL.Path != "/v1/embeddings" {
		http.NotFound(w, r)
		return
	}
	in.header = r.Header

	f.mu.Lock()
	f.calls = append(f.calls, in)
	f.running++
	f.maxRunning = max(f.maxRunning, f.running)
	answer := f.answer
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.running--
		f.mu.Unlock()
	}()

	if answer != nil && answer(w, r, in) {
		return
	}
	vectors := make([][]float32, len(in.Input))
	for i, text := range in.Input {
		vectors[i] = f.vector(text)
	}
	writeVectors(w, in.Format, vectors)
}

// vector returns the vector of text, not scaled. It is never zero.
func (f *fakeEmbedder) vector(text string) []float32 {
	v := make([]float32, f.dimensions)
	v[0] = .01
	for w := range words(text) {
		v[hash(w.text)%uint64(f.dimensions)]++
	}
	return v
}

// writeVectors answers with vectors in reverse order: clients must go by the index.
func writeVectors(w http.ResponseWriter, format string, vectors [][]float32) {
	type data struct {
		Index     int `json:"index"`
		Embedding any `json:"embedding"`
	}
	var answer struct {
		Data  []data `json:"data"`
		Usage struct {
			PromptTokens int `json:"prompt_tokens"`
		} `json:"usage"`
	}

	for i := len(vectors) - 1; i >= 0; i-- {
		d := data{i, vectors[i]}
		if format == "base64" {
			var encoded []byte
			for _, x := range vectors[i] {
				encoded = binary.LittleEndian.AppendUint32(encoded, math.Float32bits(x))
			}
			d.Embedding = base64.StdEncoding.EncodeToString(encoded)
		}
		answer.Data = append(answer.Data, d)
		answer.Usage.PromptTokens += 7
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// refuse answers all calls with status. headers are names and values in turn.
func refuse(status int, headers ...string) fakeAnswer {
	return func(w http.ResponseWriter, _ *http.Request, _ fakeRequest) bool {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		http.Error(w, fmt.Sprintf(`{"error":{"message":"refused with %d"}}`, status), status)
		return true
	}
}
