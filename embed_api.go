package main

// A single call of an OpenAI-compatible embeddings API: request, response, errors. The format is that of
// https://platform.openai.com/docs/api-reference/embeddings/create.

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// callTimeout limits one call. A shorter deadline of the caller still applies.
	callTimeout = 60 * time.Second

	// maxVectorBytes is the most that a response may have for each text: 4,000 dimensions written as decimal numbers.
	maxVectorBytes = 64 << 10

	// maxErrorBytes is how much of a response body goes into the message of an apiError.
	maxErrorBytes = 300
)

// embeddingRequest is the body of a call.
type embeddingRequest struct {
	Model      string   `json:"model"`
	Input      []string `json:"input"`
	Format     string   `json:"encoding_format"`
	Dimensions int      `json:"dimensions,omitempty"`
}

// embeddingResponse is the body of a response with status 200.
type embeddingResponse struct {
	Data []struct {
		Index     int        `json:"index"` // of the text among the inputs
		Embedding wireVector `json:"embedding"`
	} `json:"data"`
	Usage struct {
		PromptTokens int `json:"prompt_tokens"`
	} `json:"usage"`
}

// call asks the API once for the vectors of inputs, and scales them to length 1. If the API
// answers without usable vectors, the error is an apiError.
func (e *remoteEmbedder) call(ctx context.Context, inputs []string) ([][]float32, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	request, err := e.newRequest(ctx, inputs)
	if err != nil {
		return nil, err
	}
	response, err := e.client.Do(request)
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		return nil, urlErr.Err // without the URL, which may contain a key
	}
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, newAPIError(response)
	}

	maxBytes := int64(len(inputs)) * maxVectorBytes
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > maxBytes {
		return nil, apiError{
			status:  response.StatusCode,
			message: fmt.Sprintf("more than %d bytes for %d texts", maxBytes, len(inputs)),
		}
	}
	vectors, tokens, err := e.parseResponse(body, len(inputs))
	if err != nil {
		return nil, apiError{status: response.StatusCode, message: err.Error()}
	}
	spanAttrs(ctx, slog.Int("gen_ai.usage.input_tokens", tokens))
	return vectors, nil
}

// refuseRedirect is an http.Client.CheckRedirect. A redirect would send texts to a place that nobody has configured.
func refuseRedirect(r *http.Request, _ []*http.Request) error {
	place := url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.Path} // the rest may contain a key
	return apiError{
		status:  r.Response.StatusCode,
		message: "the API redirects to " + place.String() + ": set EMBEDDING_URL to the address that it should have",
	}
}

// newRequest returns the HTTP request for the vectors of inputs. It asks for base64, which is less than half as long as
// decimal numbers.
func (e *remoteEmbedder) newRequest(ctx context.Context, inputs []string) (*http.Request, error) {
	body, err := json.Marshal(embeddingRequest{
		Model:      e.model(),
		Input:      inputs,
		Format:     "base64",
		Dimensions: e.cfg.embeddingDimensions,
	})
	if err != nil {
		return nil, err
	}

	endpoint := e.cfg.embeddingURL
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if e.cfg.embeddingKey != "" {
		request.Header.Set("Authorization", "Bearer "+e.cfg.embeddingKey)
	}
	propagate(ctx, request.Header)
	return request, nil
}

// parseResponse returns the vectors of a response for n inputs, in the order of the inputs and scaled to length 1, and
// the tokens that the API counted. It checks the number of the vectors, their indices, their length and their values.
func (e *remoteEmbedder) parseResponse(
	body []byte, n int,
) (vectors [][]float32, tokens int, err error) {
	var response embeddingResponse
	if err := json.Unmarshal(body, &response); err != nil {
		return nil, 0, fmt.Errorf("not the JSON of an embeddings API: %w", err)
	}
	if len(response.Data) != n {
		return nil, 0, fmt.Errorf("%d vectors for %d texts", len(response.Data), n)
	}

	vectors = make([][]float32, n)
	for _, item := range response.Data {
		if item.Index < 0 || item.Index >= n || vectors[item.Index] != nil {
			return nil, 0, fmt.Errorf("vector %d of %d is missing or there twice", item.Index, n)
		}

		vector := []float32(item.Embedding)
		if err := e.setDimensions(len(vector)); err != nil {
			return nil, 0, err
		}

		normalize(vector) // turns infinities into NaN
		if slices.ContainsFunc(vector, isNaN) {
			return nil, 0, errors.New("a vector's numbers are not finite")
		}
		vectors[item.Index] = vector
	}
	return vectors, response.Usage.PromptTokens, nil
}

// setDimensions sets the vectors' length if it is not known yet. It returns an error if length is 0 or
// differs from the known one.
func (e *remoteEmbedder) setDimensions(length int) error {
	e.vectorLength.CompareAndSwap(0, int64(length))
	expected := e.dimensions()
	if length == 0 || length != expected {
		return fmt.Errorf("a vector of %d dimensions instead of %d", length, expected)
	}
	return nil
}

func isNaN(x float32) bool { return math.IsNaN(float64(x)) }

// apiError is a response without usable vectors: an error status, or status 200 with vectors that cannot be right.
type apiError struct {
	status     int
	message    string
	retryAfter time.Duration // 0 if the API asks for no delay
}

// newAPIError returns the error for a response whose status is not 200.
func newAPIError(response *http.Response) apiError {
	limited := io.LimitReader(response.Body, maxErrorBytes)
	body, _ := io.ReadAll(limited) // a part of the body will do
	return apiError{
		status:     response.StatusCode,
		message:    displayable(strings.TrimSpace(string(body)), maxErrorBytes),
		retryAfter: parseRetryAfter(response.Header),
	}
}

func (e apiError) Error() string {
	return fmt.Sprintf("status %d: %s", e.status, e.message)
}

// isTemporary reports whether a call that ended in err may succeed later. A call without a response always may. The
// statuses are those that OpenAI's own clients retry.
func isTemporary(err error) bool {
	apiErr, answered := errors.AsType[apiError](err)
	if !answered {
		return err != nil
	}
	switch apiErr.status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return apiErr.status >= 500
}

// isOutage reports whether err means that the API is broken or cannot be reached. A rate limit means neither.
func isOutage(err error) bool {
	apiErr, _ := errors.AsType[apiError](err)
	return isTemporary(err) && apiErr.status != http.StatusTooManyRequests
}

// mayAcceptFewer reports whether the API, after err, may accept the same inputs in smaller batches. It may even after
// status 200: a single input can be the cause of an unusable vector.
func mayAcceptFewer(err error) bool {
	apiErr, _ := errors.AsType[apiError](err)
	switch apiErr.status {
	case http.StatusOK,
		http.StatusBadRequest,
		http.StatusRequestEntityTooLarge,
		http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// parseRetryAfter returns the delay that a response asks for, at most maxRetryAfter. It is 0 if the response asks for none.
// It reads OpenAI's Retry-After-Ms, else Retry-After in seconds or as a date (RFC 9110, section 10.2.3).
func parseRetryAfter(h http.Header) time.Duration {
	if ms, ok := parseFloat(h.Get("Retry-After-Ms")); ok {
		return boundedWait(ms / 1000)
	}

	value := h.Get("Retry-After")
	if seconds, ok := parseFloat(value); ok {
		return boundedWait(seconds)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return boundedWait(time.Until(date).Seconds())
}

// boundedWait bounds a delay before it becomes a Duration, which has no infinity.
func boundedWait(seconds float64) time.Duration {
	if !(seconds > 0) { // or NaN
		return 0
	}
	return time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
}

func parseFloat(s string) (x float64, ok bool) {
	x, err := strconv.ParseFloat(s, 64)
	return x, err == nil
}

// wireVector is a vector in JSON: an array of numbers, or the base64 of little-endian 32-bit floats.
type wireVector []float32

// UnmarshalJSON reads either form: some APIs ignore encoding_format.
func (v *wireVector) UnmarshalJSON(text []byte) error {
	if text[0] != '"' {
		return json.Unmarshal(text, (*[]float32)(v))
	}

	var encoded []byte
	if err := json.Unmarshal(text, &encoded); err != nil || len(encoded)%4 != 0 {
		return errors.New("a vector is not base64 of 32-bit floats")
	}
	decoded := make([]float32, len(encoded)/4)
	_, err := binary.Decode(encoded, binary.LittleEndian, decoded)
	*v = decoded
	return err
}

func (e *remoteEmbedder) model() string { return e.cfg.embeddingModel }

func (e *remoteEmbedder) dimensions() int { return int(e.vectorLength.Load()) }
