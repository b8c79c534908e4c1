package search

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/opensearch-project/opensearch-go/v4/opensearchapi"

	"github.com/fraiseql/observer"
)

// external compares the version of a change with that of the document: a repeat
// is taken again, what is older is refused.
const external = "external_gte"

// newRequest has the library write the request for the API. It is sent by the
// client that all actions share: that of the library repeats requests by itself
// and does not tell whether one was sent.
func (a *Action) newRequest(ctx context.Context, c change, key string) (*http.Request, error) {
	req, err := a.apiRequest(c)
	if err != nil {
		return nil, observer.Permanent(observer.ReasonTemplate, fmt.Errorf("make request: %w", err))
	}
	to := *a.server
	to.RawPath = to.EscapedPath() + req.URL.RawPath
	to.Path += req.URL.Path
	to.RawQuery = req.URL.RawQuery
	req.URL, req.Host = &to, to.Host
	req.Header = http.Header{"User-Agent": {"FraiseQL-Observer"}, "X-Opaque-Id": {opaque(key)}}
	if c.operation != opDelete {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.authorization != "" {
		req.Header.Set("Authorization", a.authorization)
	}
	return req.WithContext(ctx), nil
}

func (a *Action) apiRequest(c change) (*http.Request, error) {
	var version *int
	versionType := ""
	if c.version != nil {
		n := int(*c.version)
		version, versionType = &n, external
	}
	switch c.operation {
	case opIndex:
		return opensearchapi.IndexReq{
			Index: c.index, DocumentID: c.id, Body: strings.NewReader(c.body),
			Params: opensearchapi.IndexParams{Version: version, VersionType: versionType},
		}.GetRequest(http.MethodPut)
	case opUpdate:
		return opensearchapi.UpdateReq{
			Index: c.index, DocumentID: c.id, Body: strings.NewReader(`{"doc":` + c.body + `,"doc_as_upsert":true}`),
		}.GetRequest(http.MethodPost)
	case opDelete:
		return opensearchapi.DocumentDeleteReq{
			Index: c.index, DocumentID: c.id,
			Params: opensearchapi.DocumentDeleteParams{Version: version, VersionType: versionType},
		}.GetRequest(http.MethodDelete)
	}
	return nil, fmt.Errorf("%q is neither %s, %s nor %s", c.operation, opIndex, opUpdate, opDelete)
}

// opaque is a key as the server repeats it in its logs: one line.
func opaque(key string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '_'
		}
		return r
	}, key)
}

// answer is what is read of an answer.
type answer struct {
	Result string `json:"result"`
	Error  struct {
		Type string `json:"type"`
	} `json:"error"`
}

// judge says what an answer means beyond its status: a document that is newer
// stays, and one that is not there needs no deleting. A partial update that met
// another one may be tried again.
func judge(c change, result observer.Result, err error) (observer.Result, error) {
	if err == nil || result.Status == 0 {
		return result, err
	}
	var said answer
	_ = json.Unmarshal([]byte(result.Detail), &said) // an answer of a proxy says nothing here
	switch {
	case result.Status == http.StatusConflict && c.version != nil && conflict(said, result):
		return result, nil
	case result.Status == http.StatusConflict && c.operation == opUpdate:
		return result, transient{err}
	case result.Status == http.StatusNotFound && c.operation == opDelete && absent(said, result):
		return result, nil
	}
	return result, err
}

// conflict and absent also look for the words where the answer was cut off.
func conflict(said answer, result observer.Result) bool {
	return said.Error.Type == "version_conflict_engine_exception" || strings.Contains(result.Detail, `"version_conflict_engine_exception"`)
}

func absent(said answer, result observer.Result) bool {
	return said.Result == "not_found" || said.Error.Type == "index_not_found_exception" || strings.Contains(result.Detail, `"index_not_found_exception"`)
}

// transient is a permanent error by its status that may pass here.
type transient struct{ err error }

func (t transient) Error() string { return t.err.Error() }
