package search_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// engine is a counterpart written from the document API of OpenSearch: PUT and
// DELETE /{index}/_doc/{id} with external versions, POST /{index}/_update/{id}
// with doc and doc_as_upsert, its answers and its errors.
type engine struct {
	URL string

	mu            sync.Mutex
	documents     map[string]document // by index/id
	authorization string              // asked of every request, "" for none
	requests      []*http.Request
}

type document struct {
	source  map[string]any
	version int64
	deleted bool
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{documents: map[string]document{}}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /{index}/_doc/{id}", e.index)
	mux.HandleFunc("DELETE /{index}/_doc/{id}", e.remove)
	mux.HandleFunc("POST /{index}/_update/{id}", e.update)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.requests = append(e.requests, r)
		if e.authorization != "" && r.Header.Get("Authorization") != e.authorization {
			fail(w, 401, "security_exception", "missing authentication credentials")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	e.URL = server.URL
	return e
}

func fail(w http.ResponseWriter, status int, kind, reason string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"error":  map[string]any{"root_cause": []any{map[string]any{"type": kind, "reason": reason}}, "type": kind, "reason": reason},
		"status": status,
	})
}

func succeed(w http.ResponseWriter, r *http.Request, status int, result string, version int64) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"_index": r.PathValue("index"), "_id": r.PathValue("id"), "_version": version, "result": result,
		"_shards": map[string]int{"total": 2, "successful": 1, "failed": 0}, "_seq_no": 1, "_primary_term": 1,
	})
}

func name(r *http.Request) string { return r.PathValue("index") + "/" + r.PathValue("id") }

// next is the version that the document gets, false when it has a newer one.
func (e *engine) next(w http.ResponseWriter, r *http.Request, old document) (int64, bool) {
	q := r.URL.Query()
	if q.Get("version_type") == "" {
		if q.Has("version") {
			fail(w, 400, "action_request_validation_exception", "internal versioning can not be used for optimistic concurrency control")
			return 0, false
		}
		return old.version + 1, true
	}
	version, err := strconv.ParseInt(q.Get("version"), 10, 64)
	if err != nil || q.Get("version_type") != "external_gte" {
		fail(w, 400, "illegal_argument_exception", "bad version")
		return 0, false
	}
	if version < old.version {
		fail(w, 409, "version_conflict_engine_exception", fmt.Sprintf("[%s]: version conflict, current version [%d] is higher than the one provided [%d]", r.PathValue("id"), old.version, version))
		return 0, false
	}
	return version, true
}

func read(w http.ResponseWriter, r *http.Request) (map[string]any, bool) {
	var source map[string]any
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &source) != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		fail(w, 400, "mapper_parsing_exception", "failed to parse: "+string(body))
		return nil, false
	}
	return source, true
}

func (e *engine) index(w http.ResponseWriter, r *http.Request) {
	source, ok := read(w, r)
	if !ok {
		return
	}
	old, there := e.documents[name(r)]
	version, ok := e.next(w, r, old)
	if !ok {
		return
	}
	e.documents[name(r)] = document{source: source, version: version}
	if there && !old.deleted {
		succeed(w, r, 200, "updated", version)
		return
	}
	succeed(w, r, 201, "created", version)
}

func (e *engine) remove(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("index") == "missing" {
		fail(w, 404, "index_not_found_exception", "no such index [missing]")
		return
	}
	old, there := e.documents[name(r)]
	version, ok := e.next(w, r, old)
	if !ok {
		return
	}
	e.documents[name(r)] = document{version: version, deleted: true}
	if !there || old.deleted {
		succeed(w, r, 404, "not_found", version)
		return
	}
	succeed(w, r, 200, "deleted", version)
}

func (e *engine) update(w http.ResponseWriter, r *http.Request) {
	body, ok := read(w, r)
	if !ok {
		return
	}
	if r.URL.Query().Has("version") {
		fail(w, 400, "action_request_validation_exception", "internal versioning can not be used")
		return
	}
	part, _ := body["doc"].(map[string]any)
	old, there := e.documents[name(r)]
	if (!there || old.deleted) && body["doc_as_upsert"] != true {
		fail(w, 404, "document_missing_exception", "document missing")
		return
	}
	merged := map[string]any{}
	for _, from := range []map[string]any{old.source, part} {
		maps.Copy(merged, from)
	}
	e.documents[name(r)] = document{source: merged, version: old.version + 1}
	succeed(w, r, 200, "updated", old.version+1)
}

// document is the source of one, nil when there is none.
func (e *engine) document(name string) map[string]any {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.documents[name].source
}

func (e *engine) last() *http.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests[len(e.requests)-1]
}
