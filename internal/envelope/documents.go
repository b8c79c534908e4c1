package envelope

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	observer "github.com/fraiseql/observer"
)

// Documents are the columns of a delivery that hold JSON, or what should be. nil
// is NULL: there is none.
type Documents struct {
	// Attempts is an array, "[]" when there are none.
	Attempts string
	// Prints is an array of texts.
	Prints *string
	// Request, Data and Before are kept byte for byte. Data is that of the event, or
	// the Raw of the malformed entry, Before the before-image: the JSON form of an
	// event carries changes instead, which lose how a number was written and
	// whether a field was absent or null.
	Request, Data, Before *string
	// Event and Malformed are everything else, as JSON.
	Event, Malformed *string
}

// Encode gives the documents of d. T is how texts are written in JSON; with string
// what is not UTF-8 in them becomes U+FFFD.
func Encode[T ~string](d *observer.Delivery) (Documents, error) {
	docs := Documents{Attempts: "[]", Request: nullable(d.Request)}
	var errs [4]error
	if len(d.Attempts) > 0 {
		var text *string
		if text, errs[0] = marshal(d.Attempts); text != nil {
			docs.Attempts = *text
		}
	}
	if len(d.Prints) > 0 {
		docs.Prints, errs[1] = marshal(d.Prints)
	}
	if d.Event != nil {
		docs.Event, errs[2] = marshal(newEvent[T](d.Event))
		docs.Data, docs.Before = nullable(d.Event.Data), nullable(d.Event.Before)
	}
	if d.Malformed != nil {
		docs.Malformed, errs[3] = marshal(newMalformed[T](d.Malformed))
		docs.Data = nullable(d.Malformed.Raw)
	}
	return docs, errors.Join(errs[:]...)
}

func marshal(v any) (*string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	text := string(b)
	return &text, nil
}

// nullable is raw JSON, which may be anything.
func nullable(raw json.RawMessage) *string {
	if len(raw) == 0 {
		return nil
	}
	text := string(raw)
	return &text
}

// Map gives the documents with each text changed by change.
func (docs Documents) Map(change func(string) string) Documents {
	docs.Attempts = change(docs.Attempts)
	for _, p := range []**string{&docs.Prints, &docs.Request, &docs.Data, &docs.Before, &docs.Event, &docs.Malformed} {
		if *p != nil {
			text := change(**p)
			*p = &text
		}
	}
	return docs
}

// Decode sets in d what the documents hold. stored are those that stand in the
// store, and text makes of each what [Encode] gave; nil when they are that. What cannot be decoded is kept
// where a person sees it, as it is stored, and Error says so: one damaged row must
// not hide the others. Key, Observer, Action and Error are set already.
func Decode[T ~string](d *observer.Delivery, stored Documents, text func(string) string) {
	docs := stored
	if text != nil {
		docs = stored.Map(text)
	}
	if err := json.Unmarshal([]byte(docs.Attempts), &d.Attempts); err != nil {
		d.Attempts = nil
		note(d, "the stored attempts are damaged (%v): %.200s", err, stored.Attempts)
	}
	if len(d.Attempts) == 0 {
		d.Attempts = nil
	}
	if docs.Prints != nil {
		if err := json.Unmarshal([]byte(*docs.Prints), &d.Prints); err != nil {
			d.Prints = nil // the action is then found by its index
			note(d, "the stored fingerprints of its observer are damaged (%v): %.200s", err, *stored.Prints)
		}
	}
	d.Request = raw(docs.Request)
	if docs.Request != nil && !json.Valid(d.Request) {
		d.Request, _ = json.Marshal(*docs.Request) // a string: it cannot fail
		note(d, "the stored request is not JSON")
	}
	if err := decodeEntry[T](d, docs); err != nil {
		d.Event, d.Malformed = nil, salvage(d, stored, err)
		note(d, "the stored event is damaged (%v)", err)
	}
}

func decodeEntry[T ~string](d *observer.Delivery, docs Documents) error {
	if docs.Malformed != nil {
		var m malformed[T]
		if err := json.Unmarshal([]byte(*docs.Malformed), &m); err != nil {
			return err
		}
		d.Malformed = m.malformed(raw(docs.Data))
	}
	if docs.Event != nil {
		var e event[T]
		if err := json.Unmarshal([]byte(*docs.Event), &e); err != nil {
			return err
		}
		d.Event = e.event(raw(docs.Data), raw(docs.Before))
	}
	return nil
}

func raw(text *string) json.RawMessage {
	if text == nil {
		return nil
	}
	return json.RawMessage(*text)
}

// salvage presents an event that cannot be decoded as a malformed entry: all of
// its text survives reading and storing again.
func salvage(d *observer.Delivery, stored Documents, cause error) *observer.Malformed {
	parts := map[string]string{}
	for name, text := range map[string]*string{
		"event": stored.Event, "malformed": stored.Malformed, "data": stored.Data, "before": stored.Before,
	} {
		if text != nil {
			parts[name] = *text
		}
	}
	text, _ := json.Marshal(parts) // strings only: it cannot fail
	return &observer.Malformed{
		ID:     strings.TrimSuffix(d.Key, "/"+d.Observer+"/"+strconv.Itoa(d.Action)),
		Raw:    text,
		Reason: fmt.Sprintf("its row in the state store is damaged: %v", cause),
	}
}

func note(d *observer.Delivery, format string, args ...any) {
	if d.Error != "" {
		d.Error += "; "
	}
	d.Error += fmt.Sprintf(format, args...)
}
