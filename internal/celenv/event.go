package celenv

import (
	"encoding/json"
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/fraiseql/observer"
)

const (
	eventTypeName = "event"
	// hiddenEvent is the event under a name that no expression can contain or
	// shadow, for the functions that look at it.
	hiddenEvent = "@event"
)

func eventType() *types.Type { return types.NewObjectType(eventTypeName) }

// field is one key of the event as CEL sees it.
type field struct {
	name string
	typ  *types.Type
	get  func(*Event) (any, error)
}

// eventFields are the wire names of an event. What is absent is null, as in
// the event's JSON.
func eventFields() []field {
	text := func(name string, get func(*observer.Event) string) field {
		return field{name, cel.StringType, func(e *Event) (any, error) { return get(e.Event), nil }}
	}
	optional := func(name string, get func(*observer.Event) string) field {
		return field{name, cel.NullableType(cel.StringType), func(e *Event) (any, error) { return orNull(get(e.Event)), nil }}
	}
	return []field{
		text("id", func(e *observer.Event) string { return e.ID }),
		text("event_type", func(e *observer.Event) string { return string(e.Operation) }),
		text("entity_type", func(e *observer.Event) string { return e.EntityType }),
		optional("entity_id", func(e *observer.Event) string { return e.EntityID }),
		{"data", cel.DynType, func(e *Event) (any, error) { return e.data() }},
		{"changes", cel.DynType, func(e *Event) (any, error) { return e.changesOrNull() }},
		optional("user_id", func(e *observer.Event) string { return e.UserID }),
		optional("tenant_id", func(e *observer.Event) string { return e.TenantID }),
		{"timestamp", cel.TimestampType, func(e *Event) (any, error) { return e.Timestamp.UTC(), nil }},
		{"duration_ms", cel.NullableType(cel.IntType), func(e *Event) (any, error) { return intOrNull(e.DurationMS), nil }},
		{"seq", cel.NullableType(cel.IntType), func(e *Event) (any, error) { return intOrNull(e.Seq), nil }},
		optional("actor_type", func(e *observer.Event) string { return e.ActorType }),
		optional("acting_for", func(e *observer.Event) string { return e.ActingFor }),
		optional("schema_version", func(e *observer.Event) string { return e.SchemaVersion }),
		optional("cdc_source", func(e *observer.Event) string { return e.CDCSource }),
	}
}

func orNull(s string) any {
	if s == "" {
		return types.NullValue
	}
	return s
}

func intOrNull(n *int64) any {
	if n == nil {
		return types.NullValue
	}
	return *n
}

func findField(name string) (field, bool) {
	for _, f := range eventFields() {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// Event is an event as a CEL value, and the variables of one evaluation. It
// decodes nothing until an expression asks for it.
type Event struct{ *observer.Event }

// ResolveName implements the activation of CEL.
func (e *Event) ResolveName(name string) (any, bool) {
	var v any
	var err error
	switch name {
	case "data":
		v, err = e.Fields()
	case "old":
		v, err = e.oldImage()
	case "changes":
		v, err = e.changesMap()
	case "event", hiddenEvent:
		return e, true
	default:
		return nil, false
	}
	if err != nil {
		return types.WrapErr(err), true
	}
	return v, true
}

// Parent implements the activation of CEL.
func (e *Event) Parent() cel.Activation { return nil }

// data is null where the log has no image, as in the event's JSON.
func (e *Event) data() (any, error) {
	fields, err := e.Fields()
	if err != nil || len(e.Data) == 0 {
		return types.NullValue, err
	}
	return fields, nil
}

// oldImage is empty for operations that have no before-image and an error for
// an UPDATE that should have one.
func (e *Event) oldImage() (map[string]any, error) {
	old, err := e.Old()
	if err != nil || old != nil {
		return old, err
	}
	if e.Operation == observer.Update {
		return nil, e.noBeforeImage("old")
	}
	return map[string]any{}, nil
}

func (e *Event) changesMap() (map[string]any, error) {
	changes, err := e.Changes()
	if err != nil {
		return nil, err
	}
	if changes == nil && e.Operation == observer.Update {
		return nil, e.noBeforeImage("changes")
	}
	return changesAsMap(changes), nil
}

func (e *Event) changesOrNull() (any, error) {
	changes, err := e.Changes()
	if err != nil || changes == nil {
		return types.NullValue, err
	}
	return changesAsMap(changes), nil
}

func changesAsMap(changes observer.Changes) map[string]any {
	m := make(map[string]any, len(changes))
	for name, c := range changes {
		m[name] = map[string]any{"old": c.Old, "new": c.New}
	}
	return m
}

func (e *Event) noBeforeImage(what string) error {
	return fmt.Errorf("%s needs the before-image, and this UPDATE of %s was recorded without one: "+
		"record before-images (run `fraiseql-observer capture add` for the table, "+
		"or let the producer fill object_data_before)", what, e.EntityType)
}

// ConvertToNative implements ref.Val.
func (e *Event) ConvertToNative(t reflect.Type) (any, error) {
	if t == reflect.TypeFor[json.RawMessage]() {
		return json.Marshal(e.Event)
	}
	return nil, fmt.Errorf("an event does not convert to %v", t)
}

// ConvertToType implements ref.Val.
func (e *Event) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return eventType()
	}
	return types.NewErr("an event does not convert to %s", t.TypeName())
}

// Equal implements ref.Val: an event equals itself.
func (e *Event) Equal(other ref.Val) ref.Val { return types.Bool(ref.Val(e) == other) }

// Type implements ref.Val.
func (e *Event) Type() ref.Type { return eventType() }

// Value implements ref.Val.
func (e *Event) Value() any { return e }

// Get reads a field where the check did not know the type, as in dyn(event).id.
func (e *Event) Get(index ref.Val) ref.Val {
	name, _ := index.(types.String)
	f, known := findField(string(name))
	if !known {
		return types.NewErr("no such key: %v", index)
	}
	v, err := f.get(e)
	if err != nil {
		return types.WrapErr(err)
	}
	return adapter{}.NativeToValue(v)
}

// Each calls f with every field of the event under its wire name, in the order
// of the contract, until f fails.
func (e *Event) Each(f func(name string, v ref.Val) error) error {
	for _, field := range eventFields() {
		v, err := field.get(e)
		if err != nil {
			return err
		}
		if err := f(field.name, adapter{}.NativeToValue(v)); err != nil {
			return err
		}
	}
	return nil
}

// FindStructType implements types.Provider.
func (r *registry) FindStructType(name string) (*types.Type, bool) {
	if name == eventTypeName {
		return types.NewTypeTypeWithParam(eventType()), true
	}
	return r.Registry.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (r *registry) FindStructFieldNames(name string) ([]string, bool) {
	if name == eventTypeName {
		return eventFieldNames(), true
	}
	return r.Registry.FindStructFieldNames(name)
}

func eventFieldNames() []string {
	fields := eventFields()
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// FindStructFieldType implements types.Provider.
func (r *registry) FindStructFieldType(structType, name string) (*types.FieldType, bool) {
	if structType != eventTypeName {
		return r.Registry.FindStructFieldType(structType, name)
	}
	f, known := findField(name)
	if !known {
		return nil, false
	}
	return &types.FieldType{
		Type: f.typ,
		IsSet: func(target any) bool {
			v, err := f.getAny(target)
			return err == nil && v != any(types.NullValue)
		},
		GetFrom: f.getAny,
	}, true
}

func (f field) getAny(target any) (any, error) {
	e, ok := target.(*Event)
	if !ok {
		return nil, fmt.Errorf("%s is a field of event only", f.name)
	}
	return f.get(e)
}
