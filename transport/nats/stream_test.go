package nats

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

func connect(t testing.TB, url string) *Conn {
	t.Helper()
	conn, err := Connect(t.Context(), Config{URL: observer.NewSecret(url), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func newStream(t testing.TB, conn *Conn, cfg StreamConfig) *Stream {
	t.Helper()
	s, err := NewStream(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ensured(t testing.TB, conn *Conn, cfg StreamConfig) *Stream {
	t.Helper()
	s := newStream(t, conn, cfg)
	if err := s.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func config(t testing.TB, conn *Conn, name string) jetstream.StreamConfig {
	t.Helper()
	found, err := conn.js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return found.CachedInfo().Config
}

func TestStreamIsMadeWithTheDefaults(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.NATS(t))
	var starting sync.WaitGroup
	for range 8 { // a bridge and its workers start together
		starting.Go(func() {
			if err := newStream(t, conn, StreamConfig{}).Ensure(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	got := config(t, conn, "fraiseql_events")
	want := jetstream.StreamConfig{
		Name: "fraiseql_events", Subjects: []string{"fraiseql.mutation.>"}, Duplicates: 5 * time.Minute, MaxAge: 7 * 24 * time.Hour,
		MaxMsgs: 10_000_000, MaxBytes: 10 << 30, Replicas: 1, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardNew, AllowDirect: true, AllowAtomicPublish: true, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Metadata: map[string]string{partitionsKey: "32", formatKey: "1"},
	}
	if !same(got, want) {
		t.Error(cmp.Diff(want, got))
	}
	state, err := ensured(t, conn, StreamConfig{}).State(t.Context())
	if err != nil || state.Msgs != 0 || state.Created.IsZero() {
		t.Errorf("%+v, %v", state, err)
	}
	if _, err := newStream(t, conn, StreamConfig{Name: "other"}).State(t.Context()); !errors.Is(err, observer.ErrNotFound) {
		t.Errorf("%v, want not found", err)
	}
}

// made is a stream as somebody else made it: the one that is wanted, with changes.
func made(t *testing.T, conn *Conn, messages int, change func(*jetstream.StreamConfig)) {
	t.Helper()
	cfg := newStream(t, conn, StreamConfig{Partitions: 4}).wanted(jetstream.StreamConfig{})
	change(&cfg)
	if _, err := conn.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for range messages {
		if _, err := conn.js.Publish(t.Context(), "fraiseql.mutation.x.1.y.INSERT", []byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
}

func strange(cfg *jetstream.StreamConfig) { cfg.Metadata = nil }

func TestStreamIsBroughtUpToItsConfiguration(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		messages int
		change   func(*jetstream.StreamConfig)
	}{
		"limits raised":       {2, func(c *jetstream.StreamConfig) { c.MaxMsgs, c.MaxBytes = 2, 10_000 }},
		"age raised":          {2, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
		"no batches":          {2, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }},
		"no direct reads":     {2, func(c *jetstream.StreamConfig) { c.AllowDirect = false }},
		"short window":        {2, func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }},
		"limit per subject":   {2, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 2, true }},
		"size of messages":    {2, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 }},
		"strange and empty":   {0, func(c *jetstream.StreamConfig) { strange(c); c.Discard = jetstream.DiscardOld }},
		"subject of a part":   {0, func(c *jetstream.StreamConfig) { strange(c); c.Subjects = []string{"fraiseql.mutation.*"} }},
		"limits above stored": {2, func(c *jetstream.StreamConfig) { c.MaxMsgs, c.MaxBytes, c.MaxAge = -1, -1, 0 }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testenv.NATS(t))
			made(t, conn, tt.messages, func(c *jetstream.StreamConfig) { c.Description = "theirs"; tt.change(c) })
			s := ensured(t, conn, StreamConfig{Partitions: 4})
			if cfg := config(t, conn, "fraiseql_events"); !same(cfg, s.wanted(jetstream.StreamConfig{})) || cfg.Description != "theirs" {
				t.Errorf("%+v", cfg)
			}
			if state, err := s.State(t.Context()); err != nil || state.Msgs != uint64(tt.messages) {
				t.Errorf("%+v, %v", state, err)
			}
		})
	}
}

func TestStreamThatWouldLoseSomethingIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		messages int
		change   func(*jetstream.StreamConfig)
		wanted   StreamConfig
		says     []string
	}{
		"partitions":      {0, func(*jetstream.StreamConfig) {}, StreamConfig{Partitions: 8}, []string{"has 4 partitions, wanted are 8", "set partitions = 4"}},
		"fewer messages":  {3, func(*jetstream.StreamConfig) {}, StreamConfig{MaxMsgs: 2}, []string{"has 3 messages", "max_msgs = 2"}},
		"fewer bytes":     {3, func(*jetstream.StreamConfig) {}, StreamConfig{MaxBytes: 20}, []string{"max_bytes = 20"}},
		"lower age":       {3, func(*jetstream.StreamConfig) {}, StreamConfig{MaxAge: time.Nanosecond, DedupWindow: time.Nanosecond}, []string{"oldest message", "1ns"}},
		"retention":       {0, func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, StreamConfig{}, []string{"retention is WorkQueue, wanted is Limits"}},
		"storage":         {0, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, StreamConfig{}, []string{"storage is Memory, wanted is File"}},
		"discard":         {1, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, StreamConfig{}, []string{"DiscardOld", "--discard new"}},
		"strange, filled": {1, strange, StreamConfig{}, []string{"was not made by", "has 1 messages", "purge"}},
		"newer format":    {0, func(c *jetstream.StreamConfig) { c.Metadata[formatKey] = "2" }, StreamConfig{}, []string{"format 2", "format 1"}},
		"another prefix":  {1, func(*jetstream.StreamConfig) {}, StreamConfig{SubjectPrefix: "other"}, []string{"fraiseql.mutation.>", "other.>"}},
		"more subjects": {0, func(c *jetstream.StreamConfig) { strange(c); c.Subjects = append(c.Subjects, "mine") }, StreamConfig{},
			[]string{"the subject mine"}},
		"prefix in use": {0, func(c *jetstream.StreamConfig) { c.Name = "theirs" }, StreamConfig{}, []string{"stream theirs has them", "stream_name"}},
		"transforming": {0, func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: "x.>"}
		}, StreamConfig{}, []string{"transforms subjects"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testenv.NATS(t))
			made(t, conn, tt.messages, tt.change)
			if tt.wanted.Partitions == 0 {
				tt.wanted.Partitions = 4
			}
			err := newStream(t, conn, tt.wanted).Ensure(t.Context())
			if err == nil || observer.Retryable(err) {
				t.Fatalf("%v, want a permanent error", err)
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v\ndoes not say %q", err, part)
				}
			}
		})
	}
}

func TestBadStreamConfigurations(t *testing.T) {
	t.Parallel()
	for _, cfg := range []StreamConfig{
		{Name: "a.b"}, {Name: "a b"}, {Name: "a/b"}, {SubjectPrefix: "a b"}, {Partitions: -1}, {Partitions: 2000}, {DedupWindow: time.Hour, MaxAge: time.Minute},
	} {
		if _, err := NewStream(nil, cfg); err == nil || observer.Retryable(err) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestOldServersAreRefused(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"2.11.9": "version 2.11.9", "1.4.1": "2.12 or newer", "2.12.0": "", "2.15.2": "", "3.0.0-beta": "", "x": "cannot be read", "": "lost",
	} {
		err := checkVersion(version)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", version, err)
		}
	}
}

func TestWithoutJetStream(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.PlainNATS(t))
	err := newStream(t, conn, StreamConfig{}).Ensure(t.Context())
	if err == nil || !observer.Retryable(err) || !strings.Contains(err.Error(), "JetStream is not enabled") {
		t.Error(err)
	}
}
