package nats

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"unicode/utf8"

	client "github.com/nats-io/nats.go"

	"github.com/fraiseql/observer"
)

// malformedPrefix is reserved, so that the name given to a message is never the
// id of an event.
const malformedPrefix = "malformed:"

// record is a message of the stream, however it was read.
type record struct {
	point
	subject string
	header  client.Header
	data    []byte
}

// message makes an event of what is stored, or a malformed entry that keeps it
// as it is.
//
// Invariant 10: what cannot be understood is kept, raw.
func (s *Source) message(m *record) observer.Message {
	pos := m.position()
	e, err := decode(m)
	if err == nil {
		return observer.Message{Event: e, Position: pos, Origin: headerValue(m.header, DatabaseHeader)}
	}
	bad := &observer.Malformed{
		ID:  malformedPrefix + s.name + ":" + strconv.FormatInt(m.life, 36) + ":" + strconv.FormatUint(m.seq, 10),
		Raw: m.raw(), Reason: err.Error(), Source: s.name, Position: pos,
	}
	bad.EntityType, bad.EntityID = m.entity(s.stream.Subjects)
	return observer.Message{Malformed: bad, Position: pos}
}

// decode gives the first reason why a message is not an event.
func decode(m *record) (*observer.Event, error) {
	if len(m.data) == 0 {
		return nil, errors.New("the message is empty")
	}
	if !utf8.Valid(m.data) {
		return nil, errors.New("the message is not UTF-8")
	}
	e := &observer.Event{}
	// Not by json.Unmarshal, which would look at all of it three times.
	if err := e.UnmarshalJSON(m.data); err != nil {
		return nil, err
	}
	if rest := bytes.TrimSpace(m.data[endOfObject(m.data):]); len(rest) > 0 {
		return nil, fmt.Errorf("there is something behind the event: %.60q", rest)
	}
	// The id of the message is another one where the server took that of the event
	// for a duplicate.
	if id := eventID(m.header); id != "" && id != headerText(e.ID) {
		return nil, fmt.Errorf("the headers say that the id of the event is %q, and it is %q: they must be the same", id, e.ID)
	}
	if e.EntityType == "" {
		return nil, errors.New("entity_type is missing")
	}
	if e.EntityID == "" && e.Operation != observer.Custom {
		return nil, fmt.Errorf("entity_id is missing on %s", e.Operation)
	}
	e.TraceParent, e.TraceState = headerValue(m.header, traceParentHeader), headerValue(m.header, traceStateHeader)
	return e, nil
}

// headerValue is the text that headerText made the value of a header from, or the
// value where it did not make it.
func headerValue(h client.Header, key string) string {
	value := h.Get(key)
	if text, err := url.PathUnescape(value); err == nil {
		return text
	}
	return value
}

// endOfObject is where the first JSON object in data ends, which is known to be
// one.
func endOfObject(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		}
	}
	return len(data)
}

// raw writes a message as JSON. What is not JSON stands in it as base64, which
// loses nothing.
func (m *record) raw() json.RawMessage {
	type message struct {
		Subject string          `json:"subject"`
		Headers client.Header   `json:"headers,omitempty"`
		Data    json.RawMessage `json:"data,omitempty"`
		Base64  []byte          `json:"base64,omitempty"`
	}
	w := message{Subject: m.subject, Headers: m.header}
	if utf8.Valid(m.data) && json.Valid(m.data) {
		w.Data = m.data
	} else {
		w.Base64 = m.data
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(w); err != nil { // cannot be: all of it was checked
		return json.RawMessage(`null`)
	}
	return bytes.TrimSpace(b.Bytes())
}

// entity is what can be read of the entity: in the message, else in the subject.
func (m *record) entity(subjects Subjects) (kind, id string) {
	var body struct {
		EntityType any `json:"entity_type"`
		EntityID   any `json:"entity_id"`
	}
	if utf8.Valid(m.data) && json.Unmarshal(m.data, &body) == nil {
		kind, _ = body.EntityType.(string)
		id, _ = body.EntityID.(string)
	}
	if at, err := subjects.Parse(m.subject); kind == "" && err == nil {
		kind = at.EntityType
	}
	return kind, id
}
