package nats

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"

	"github.com/fraiseql/observer"
)

func TestPositionText(t *testing.T) {
	t.Parallel()
	for _, p := range []point{
		{life: 1, seq: 2, at: 3, mark: mark("id")},
		{life: -1, seq: 1<<64 - 1, at: 1<<63 - 1},
		{},
	} {
		if got, err := parsePosition(p.position()); err != nil || got != p {
			t.Errorf("%q gives %+v, %v; want %+v", p.position(), got, err, p)
		}
	}
	for _, bad := range []observer.Position{"", "1", "1:1:1:1", "2:1:1:1:", "1:1:-1:1:", "1::1:1:", "1:1:01:1:", "1:A:1:1:", "1:1:1:1:x:y", "s:1:2:3:4"} {
		if p, err := parsePosition(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, p)
		}
	}
}

func TestSameMessage(t *testing.T) {
	t.Parallel()
	now := time.Unix(5, 7)
	for _, tt := range []struct {
		p    point
		at   time.Time
		id   string
		want bool
	}{
		{p: point{at: now.UnixNano(), mark: mark("a")}, at: now, id: "a", want: true},
		{p: point{at: now.UnixNano(), mark: mark("a")}, at: now, id: "b"},
		{p: point{at: now.UnixNano(), mark: mark("a")}, at: now.Add(1), id: "a"},
		{p: point{at: now.UnixNano()}, at: now, id: "b", want: true}, // the head of a stream
		{p: point{at: now.UnixNano()}, at: now.Add(1), id: "b"},
	} {
		if got := tt.p.is(tt.at, tt.id); got != tt.want {
			t.Errorf("%+v is that of %s with the id %q: %v", tt.p, tt.at, tt.id, got)
		}
	}
}

func FuzzPosition(f *testing.F) {
	f.Add("1:a:5:b:mark")
	f.Add("1:-1:0:+2:")
	f.Add("1::::")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePosition(observer.Position(text))
		if err == nil && string(p.position()) != text {
			t.Errorf("%q was read as %+v, which is written as %q", text, p, p.position())
		}
	})
}

// FuzzDecode holds that every message is an event or a malformed entry that keeps
// all of it, and that an event is written as it was read.
func FuzzDecode(f *testing.F) {
	good, err := json.Marshal(&observer.Event{ID: "1", Operation: observer.Update, EntityType: "Order", EntityID: "7", Data: []byte(`{"a":1}`), Before: []byte(`{"a":2}`), Timestamp: time.Unix(0, 0)})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(good), "", "hello", "{}", `{"id":""}`, "\xff", `{"id":"1","event_type":"NOOP","entity_type":"a"}`, `{"entity_type":1}`, string(good) + string(good), string(good) + `"}`, `{"id":"\"}","event_type":"NOOP","entity_type":"}{"} `} {
		f.Add(seed, "")
	}
	f.Add(string(good), "2")
	f.Add(strings.Replace(string(good), `"1"`, `"é"`, 1), "%C3%A9")
	subjects, err := NewSubjects("p", 4)
	if err != nil {
		f.Fatal(err)
	}
	s := &Source{name: "source", stream: &Stream{Subjects: subjects}}
	f.Fuzz(func(t *testing.T, data, id string) {
		m := &record{point: point{life: 1, seq: 2, at: 3}, subject: "p.db.0.Order.UPDATE", data: []byte(data), header: client.Header{client.MsgIdHdr: {id}}}
		msg := s.message(m)
		switch {
		case msg.Event != nil && msg.Malformed == nil:
			if !json.Valid([]byte(data)) {
				t.Errorf("%q is no JSON and was taken for an event", data)
			}
			if msg.Event.ID == "" || id != "" && id != headerText(msg.ID()) || msg.Event.EntityType == "" {
				t.Errorf("event %+v of %q", msg.Event.ID, data)
			}
		case msg.Malformed != nil && msg.Event == nil:
			wantWhole(t, msg.Malformed, data)
		default:
			t.Errorf("%q is neither or both: %+v", data, msg)
		}
	})
}

func wantWhole(t *testing.T, m *observer.Malformed, data string) {
	t.Helper()
	var kept struct {
		Data   json.RawMessage
		Base64 []byte
	}
	if err := json.Unmarshal(m.Raw, &kept); err != nil {
		t.Fatalf("raw %q: %v", m.Raw, err)
	}
	if string(kept.Base64) == data {
		return
	}
	var want, have any
	if json.Unmarshal([]byte(data), &want) != nil || json.Unmarshal(kept.Data, &have) != nil || !strings.Contains(string(m.Raw), "data") {
		t.Errorf("%q is kept as %q", data, m.Raw)
	}
}
