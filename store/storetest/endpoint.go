package storetest

import (
	"errors"
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
		"endpoint/changed since it was read":    testEndpointChanged,
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

// saveEndpoint stores endpoints in place of what is there.
func saveEndpoint(t tester, s observer.StateStore, es ...observer.Endpoint) {
	t.Helper()
	for _, e := range es {
		e.UpdatedAt = endpointVersion(t, s, e.Name)
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

// endpointVersion is when the endpoint was stored, zero when it is not.
func endpointVersion(t tester, s observer.StateStore, name string) time.Time {
	t.Helper()
	es, err := s.Endpoints(t.Context())
	if err != nil {
		t.Fatalf("endpoints: %v", err)
	}
	for _, e := range es {
		if e.Name == name {
			return e.UpdatedAt
		}
	}
	return time.Time{}
}

func testEndpointUpdatedAt(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	e := knownEndpoints()[0]
	for range 2 {
		h.clock.advance(time.Hour)
		saveEndpoint(t, s, e)
		wantDiff(t, "updated at", h.clock.Now(), endpointVersion(t, s, e.Name))
	}
	saveEndpoint(t, s, e) // at the same moment, and still another row
	if at := endpointVersion(t, s, e.Name); !at.After(h.clock.Now()) {
		t.Errorf("stored once more at the same moment: updated at %s", at)
	}
}

// What somebody else stored since the row was read stays.
func testEndpointChanged(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	e := knownEndpoints()[0]
	version := func() time.Time { return endpointVersion(t, s, e.Name) }
	busy := func(what string, e observer.Endpoint) {
		t.Helper()
		was := version()
		if err := s.SaveEndpoint(t.Context(), e); !errors.Is(err, observer.ErrBusy) {
			t.Errorf("%s: error %v, want busy", what, err)
		}
		wantDiff(t, what+": updated at", was, version())
	}
	at := func(updated time.Time, pause observer.Pause) observer.Endpoint {
		return observer.Endpoint{Name: e.Name, Pause: pause, UpdatedAt: updated}
	}
	busy("a row that is not there", at(h.clock.Now(), observer.PausedByPerson))
	saveEndpoint(t, s, e)
	first := version()
	busy("none, and there is one", at(time.Time{}, observer.PausedByPerson))
	busy("none, to be removed, and there is one", at(time.Time{}, observer.NotPaused))
	saveEndpoint(t, s, at(time.Time{}, observer.PausedByPerson))
	busy("an earlier one", at(first, observer.PausedGone))
	busy("an earlier one, to be removed", at(first, observer.NotPaused))
	saveEndpoint(t, s, at(time.Time{}, observer.NotPaused))
	if err := s.SaveEndpoint(t.Context(), at(first, observer.NotPaused)); err != nil {
		t.Errorf("removed already: %v", err)
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
