package celenv

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"
	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

func TestEventFieldsAreTheKeysOfTheEventJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(&observer.Event{ID: "1", Operation: observer.Insert, Timestamp: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	var wire []string
	dec := json.NewDecoder(strings.NewReader(string(b)))
	for depth := 0; ; {
		token, err := dec.Token()
		if err != nil {
			break
		}
		if key, isString := token.(string); isString && depth == 1 && len(wire) < 100 {
			wire = append(wire, key)
			var skip json.RawMessage
			if err := dec.Decode(&skip); err != nil {
				t.Fatal(err)
			}
		}
		if token == json.Delim('{') {
			depth++
		}
	}
	if diff := cmp.Diff(wire, eventFieldNames()); diff != "" {
		t.Errorf("fields of event differ from the wire (-wire +event):\n%s", diff)
	}
}

func TestEveryKnownNameExists(t *testing.T) {
	t.Parallel()
	env, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range knownNames() {
		exists := false
		for _, src := range []string{name, name + "(data.a)", "data.a." + name + "(data.b)", "data.a." + name + "(x, data.b)"} {
			_, err := env.Compile(src)
			exists = exists || err == nil || !strings.Contains(err.Error(), name+" is a function or macro")
		}
		if !exists {
			t.Errorf("%q is suggested and does not exist", name)
		}
	}
	if _, err := env.Compile(`size`); err == nil || !strings.Contains(err.Error(), "size is a function") {
		t.Errorf("a function without its arguments: %v", err)
	}
}

func TestNothingIsDecodedThatIsNotAskedFor(t *testing.T) {
	t.Parallel()
	env, err := New()
	if err != nil {
		t.Fatal(err)
	}
	program, err := env.Compile(`event.entity_type == 'Order'`)
	if err != nil {
		t.Fatal(err)
	}
	broken := &observer.Event{ID: "1", Operation: observer.Insert, EntityType: "Order", Data: json.RawMessage(`{"a":`)}
	if v, err := program.Eval(t.Context(), broken); err != nil || v.Value() != true {
		t.Errorf("an expression over the envelope looked at the data: %v, %v", v, err)
	}
}

func TestCompileErrorHasAPosition(t *testing.T) {
	t.Parallel()
	env, err := New()
	if err != nil {
		t.Fatal(err)
	}
	_, err = env.Compile("data.a == 1 ||\n  é.b")
	var mistake *CompileError
	if !errors.As(err, &mistake) || mistake.Line != 2 || mistake.Column != 3 {
		t.Errorf("error %v (%+v) is not at line 2, column 3", err, mistake)
	}
}

func TestReplaceIsBoundedBeforeItRuns(t *testing.T) {
	t.Parallel()
	text, one := types.String(strings.Repeat("a", maxText/2)), types.String("a")
	if v := replace(text, one, one, types.Int(3)); types.IsError(v) {
		t.Errorf("a short replacement: %v", v)
	}
	if v := replace(text, one, types.String("aa")); !types.IsError(v) {
		t.Error("a text of more than maxText was built")
	}
}
