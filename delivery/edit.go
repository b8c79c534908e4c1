package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/fraiseql/observer"
)

// Reasons lists every reason that a dead letter or a dropped delivery can have.
func Reasons() []observer.Reason {
	return []observer.Reason{
		observer.ReasonExhausted, observer.ReasonPermanent, observer.ReasonGone, observer.ReasonCondition, observer.ReasonTemplate,
		observer.ReasonTooLarge, observer.ReasonMalformed, observer.ReasonUnconfigured, observer.ReasonOutcomeUnknown, observer.ReasonExpired,
		observer.ReasonFallback,
	}
}

var (
	// ErrNoRequest is given for a delivery whose request was never rendered: the
	// next attempt renders it.
	ErrNoRequest = errors.New("there is no request yet: it is rendered when the delivery is run again")
	// ErrEmptyRequest is given for an edit that leaves nothing.
	ErrEmptyRequest = errors.New("the request is empty")
	// ErrNotAnEvent is given for a log entry that is no event, and has no request.
	ErrNotAnEvent = errors.New("a log entry that is not an event has no request: repair it in the change log")
)

// CheckEdit says whether a person may put changed in place of the request of d,
// as [Edit] then does, and gives it in the form to store; nil when it is the
// present one. editable names the parts that the type of its action lets people
// change; package config knows them. These are the rules:
//
//   - It is a JSON object with the parts of the present request, or fewer: what is
//     left out is rendered again. Nothing is added, and no part becomes of another kind.
//   - What is not editable stays as it is: it says, for people, where the first
//     attempt went. Where the next one goes is in the configuration.
//
// Its errors say to a person what is wrong, among them [ErrEmptyRequest];
// [ErrNoRequest] and [ErrNotAnEvent] tell of a delivery that has nothing to edit.
// It changes nothing, and may be called concurrently.
func CheckEdit(d *observer.Delivery, changed []byte, editable []string) (json.RawMessage, error) {
	present, err := Parts(d)
	if err != nil {
		return nil, err
	}
	if len(editable) == 0 {
		return nil, fmt.Errorf("nothing is known of the requests of an action of type %q, so none of them is changed", d.ActionType)
	}
	parts, err := decode(changed)
	if err != nil {
		return nil, fmt.Errorf("the request is not a JSON object: %w", err)
	}
	if len(parts) == 0 {
		return nil, ErrEmptyRequest
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if err := checkPart(present, name, parts[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(present)) {
		if !slices.Contains(editable, name) && !reflect.DeepEqual(parts[name], present[name]) {
			return nil, fmt.Errorf("%q says where the first attempt went; where the next one goes is in the configuration", name)
		}
	}
	if reflect.DeepEqual(parts, present) {
		return nil, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, changed); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// Parts are the parts of the request of d by name, as encoding/json decodes
// them, numbers as [json.Number]. Its errors are [ErrNoRequest] and
// [ErrNotAnEvent].
func Parts(d *observer.Delivery) (map[string]any, error) {
	if d.Malformed != nil {
		return nil, ErrNotAnEvent
	}
	parts, err := decode(d.Request)
	if err != nil || len(parts) == 0 {
		return nil, ErrNoRequest
	}
	return parts, nil
}

// decode reads one JSON object. Its numbers stay as they are written: two large
// ones that differ must not become the same.
func decode(text []byte) (parts map[string]any, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&parts); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	return parts, nil
}

func checkPart(present map[string]any, name string, value any) error {
	was, ok := present[name]
	if !ok {
		return fmt.Errorf("the request has no %q; it has %s", name, strings.Join(slices.Sorted(maps.Keys(present)), ", "))
	}
	if reflect.TypeOf(value) != reflect.TypeOf(was) {
		return fmt.Errorf("%q is %s, and was %s", name, kindOf(value), kindOf(was))
	}
	return nil
}

// kindOf is what JSON calls a value.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a text"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	}
	return "an object"
}
