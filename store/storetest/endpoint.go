package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func endpointTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"endpoint/round trip by name":           testEndpoints,
		"endpoint/saving replaces all of it":    testEndpointReplaced,
		"endpoint/removed when it works again":  testEndpointRemoved,
		"endpoint/stored at the store's clock":  testEndpointUpdatedAt,
		"endpoint/there after opening again":    testEndpointReopen,
		"two stores/both know the same of them": testEndpointShared,
	}
}

func endpoints(t tester, s observer.StateStore) []observer.Endpoint {
	t.Helper()
	es, err := s.Endpoints(t.Context())
	if err != nil {
		t.Fatalf("endpoints: %v", err)
	}
	for i := range es {
		es[i].UpdatedAt = time.Time{}
	}
	return es
}

func saveEndpoint(t tester, s observer.StateStore, es ...observer.Endpoint) {
	t.Helper()
	for _, e := range es {
		if err := s.SaveEndpoint(t.Context(), e); err != nil {
			t.Fatalf("save endpoint %q: %v", e.Name, err)
		}
	}
}

func knownEndpoints() []observer.Endpoint {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	return []observer.Endpoint{
		{Name: "https://a.example.com", FailingSince: at},
		{Name: "https://b.example.com", FailingSince: at, LastError: "status 503: é\n\u2028", Pause: observer.PausedFailing, PausedAt: at.Add(time.Hour)},
		{Name: "https://c.example.com", Pause: observer.PausedByPerson, PausedAt: at},
		{Name: "smtp://mail/'\"; --", LastError: "status 410", Pause: observer.PausedGone, PausedAt: at},
	}
}

func testEndpoints(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	wantDiff(t, "in an empty store", []observer.Endpoint(nil), endpoints(t, s))
	want := knownEndpoints()
	saveEndpoint(t, s, want[2], want[0], want[3], want[1])
	wantDiff(t, "endpoints", want, endpoints(t, s))
}

func testEndpointReplaced(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	es := knownEndpoints()
	for i := range es {
		es[i].Name = "the same"
		saveEndpoint(t, s, es[i])
		wantDiff(t, "endpoints", es[i:i+1], endpoints(t, s))
	}
}

func testEndpointRemoved(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	es := knownEndpoints()
	saveEndpoint(t, s, es...)
	saveEndpoint(t, s, observer.Endpoint{Name: es[1].Name, LastError: "status 503", PausedAt: es[1].PausedAt},
		observer.Endpoint{Name: "never stored"})
	wantDiff(t, "endpoints", []observer.Endpoint{es[0], es[2], es[3]}, endpoints(t, s))
}

func testEndpointUpdatedAt(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	e := knownEndpoints()[0]
	for range 2 {
		h.clock.advance(time.Hour)
		e.UpdatedAt = time.Unix(1, 0)
		saveEndpoint(t, s, e)
		es, err := s.Endpoints(t.Context())
		if err != nil || len(es) != 1 {
			t.Fatalf("got %d endpoints and error %v, want 1", len(es), err)
		}
		wantDiff(t, "updated at", h.clock.Now(), es[0].UpdatedAt)
	}
}

func testEndpointReopen(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir()}
	s := h.open(t, opts)
	saveEndpoint(t, s, knownEndpoints()...)
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	wantDiff(t, "endpoints", knownEndpoints(), endpoints(t, h.store(t, opts)))
}

func testEndpointShared(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir()}
	a, b := h.store(t, opts), h.store(t, opts)
	es := knownEndpoints()
	for i, e := range es {
		saveEndpoint(t, a, e)
		wantDiff(t, "endpoints", es[:i+1], endpoints(t, b))
	}
	saveEndpoint(t, b, observer.Endpoint{Name: es[0].Name})
	wantDiff(t, "endpoints", es[1:], endpoints(t, a))
}
