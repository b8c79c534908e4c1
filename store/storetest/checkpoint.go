package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func checkpointTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"checkpoint/unknown name":                     testCheckpointUnknown,
		"checkpoint/round trip":                       testCheckpointRoundTrip,
		"checkpoint/save replaces all of it":          testCheckpointReplaced,
		"checkpoint/saved at the store's clock":       testCheckpointSavedAt,
		"checkpoint/names are separate":               testCheckpointNames,
		"checkpoint/the caller's slice is not kept":   testCheckpointNotShared,
		"checkpoint/the loaded slice is the caller's": testCheckpointLoadedNotShared,
	}
}

func testCheckpointUnknown(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	_, err := s.LoadCheckpoint(t.Context(), "shop")
	wantError(t, "load", err, observer.ErrNotFound)
}

func testCheckpointRoundTrip(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	thousand := make([]string, 1000)
	for i := range thousand {
		thousand[i] = fmt.Sprintf("0190b5a4-0000-7000-8000-%012d", 1000-i)
	}
	for name, cp := range map[string]observer.Checkpoint{
		"zero":               {},
		"position":           {Position: "42"},
		"done only":          {Done: []string{"a"}},
		"thousand done":      {Position: `{"floor":1}`, Done: thousand},
		"odd":                {Position: "a'\"\n\u2028b", Done: []string{"", "ü", "\"", "a\nb"}},
		"long":               {Position: observer.Position(strings.Repeat("x", 1<<20))},
		"zażółć ';--/ shop?": {Position: "1"},
		"":                   {Position: "2"},
	} {
		if err := s.SaveCheckpoint(t.Context(), name, cp); err != nil {
			t.Errorf("save %q: %v", name, err)
			continue
		}
		wantCheckpoint(t, s, name, cp)
	}
}

func wantCheckpoint(t tester, s observer.StateStore, name string, want observer.Checkpoint) {
	t.Helper()
	got, err := s.LoadCheckpoint(t.Context(), name)
	if err != nil {
		t.Errorf("load %q: %v", name, err)
	}
	got.SavedAt = want.SavedAt
	wantDiff(t, "checkpoint "+name, want, got)
}

func testCheckpointReplaced(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for _, cp := range []observer.Checkpoint{{Position: "9", Done: []string{"a", "b"}}, {Position: "10"}, {}} {
		if err := s.SaveCheckpoint(t.Context(), "shop", cp); err != nil {
			t.Fatal(err)
		}
		wantCheckpoint(t, s, "shop", cp)
	}
}

func testCheckpointSavedAt(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for range 2 {
		h.clock.advance(time.Hour)
		err := s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{SavedAt: time.Unix(1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		cp, err := s.LoadCheckpoint(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		wantDiff(t, "saved at", h.clock.Now(), cp.SavedAt)
	}
}

func testCheckpointNames(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	names := []string{"a", "A", "a ", "ä", "a/b"}
	for i, name := range names {
		if err := s.SaveCheckpoint(t.Context(), name, observer.Checkpoint{Position: position(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range names {
		wantCheckpoint(t, s, name, observer.Checkpoint{Position: position(i)})
	}
}

func position(i int) observer.Position { return observer.Position(strconv.Itoa(i)) }

func testCheckpointNotShared(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	cp := observer.Checkpoint{Done: []string{"a"}}
	if err := s.SaveCheckpoint(t.Context(), "shop", cp); err != nil {
		t.Fatal(err)
	}
	cp.Done[0] = "changed"
	wantCheckpoint(t, s, "shop", observer.Checkpoint{Done: []string{"a"}})
}

func testCheckpointLoadedNotShared(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	want := observer.Checkpoint{Done: []string{"a"}}
	if err := s.SaveCheckpoint(t.Context(), "shop", want); err != nil {
		t.Fatal(err)
	}
	loaded, err := s.LoadCheckpoint(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	loaded.Done[0] = "changed"
	wantCheckpoint(t, s, "shop", want)
}
