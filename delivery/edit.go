package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/fraiseql/observer"
)

// Reasons lists every reason that a dead letter can have.
func Reasons() []observer.Reason {
	return []observer.Reason{
		observer.ReasonExhausted, observer.ReasonPermanent, observer.ReasonGone, observer.ReasonCondition, observer.ReasonTemplate,
		observer.ReasonTooLarge, observer.ReasonMalformed, observer.ReasonUnconfigured, observer.ReasonOutcomeUnknown, observer.ReasonExpired,
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
// present one. These are the rules:
//
//   - It is a JSON object with the parts of the present request, or fewer: what is
//     left out is rendered again. Nothing is added, and no part becomes of another kind.
//   - What says where the first attempt went stays as it is (see [Addressed]).
//
// Its errors say to a person what is wrong, among them [ErrEmptyRequest];
// [ErrNoRequest] and [ErrNotAnEvent] tell of a delivery that has nothing to edit.
// It changes nothing, and may be called concurrently.
func CheckEdit(d *observer.Delivery, changed []byte) (json.RawMessage, error) {
	present, err := Parts(d)
	if err != nil {
		return nil, err
	}
	var parts map[string]any
	if err := json.Unmarshal(changed, &parts); err != nil {
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
	for _, name := range Addressed(d.ActionType) {
		if !reflect.DeepEqual(parts[name], present[name]) {
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
// them. Its errors are [ErrNoRequest] and [ErrNotAnEvent].
func Parts(d *observer.Delivery) (map[string]any, error) {
	if d.Malformed != nil {
		return nil, ErrNotAnEvent
	}
	var parts map[string]any
	if json.Unmarshal(d.Request, &parts) != nil || len(parts) == 0 {
		return nil, ErrNoRequest
	}
	return parts, nil
}

// Addressed names the parts of the requests of a type of action that say where
// the first attempt went. They are for people: the configuration says where the
// next one goes.
func Addressed(actionType string) []string {
	switch actionType {
	case "webhook":
		return []string{"method", "url"}
	case "email":
		return []string{"from", "to", "cc", "bcc", "reply_to"}
	}
	return nil
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
	case float64:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	}
	return "an object"
}
