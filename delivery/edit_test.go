package delivery_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

func TestCheckEdit(t *testing.T) {
	t.Parallel()
	const present = `{"method":"POST","url":"https://example.com","body":"a","count":9007199254740993}`
	editable := []string{"body", "count", "content_type"}
	for name, tt := range map[string]struct {
		changed, want, fails string
	}{
		"another body":    {changed: `{"method": "POST", "url": "https://example.com", "body": "b", "count": 9007199254740993}`, want: `{"method":"POST","url":"https://example.com","body":"b","count":9007199254740993}`},
		"a part left out": {changed: `{"method":"POST","url":"https://example.com","body":"a"}`, want: `{"method":"POST","url":"https://example.com","body":"a"}`},
		"unchanged":       {changed: `{"count": 9007199254740993, "body": "a", "url": "https://example.com", "method": "POST"}`},
		"another address": {changed: `{"method":"POST","url":"https://example.org","body":"a"}`, fails: `"url" says where the first attempt went`},
		"no address":      {changed: `{"method":"POST","body":"a"}`, fails: `"url" says where the first attempt went`},
		"a part more":     {changed: `{"method":"POST","url":"https://example.com","bdy":"a"}`, fails: `the request has no "bdy"; it has body, count, method, url`},
		"another kind":    {changed: `{"method":"POST","url":"https://example.com","body":[]}`, fails: `"body" is a list, and was a text`},
		"null":            {changed: `{"method":"POST","url":"https://example.com","count":null}`, fails: `"count" is null, and was a number`},
		"nothing":         {changed: `{}`, fails: "the request is empty"},
		"no object":       {changed: `[1]`, fails: "not a JSON object"},
		"another number":  {changed: `{"method":"POST","url":"https://example.com","body":"a","count":9007199254740992}`, want: `{"method":"POST","url":"https://example.com","body":"a","count":9007199254740992}`},
		"two objects":     {changed: `{"method":"POST","url":"https://example.com","body":"b"} {}`, fails: "not a JSON object: something follows it"},
		"no JSON":         {changed: `{"body"`, fails: "not a JSON object"},
	} {
		d := &observer.Delivery{ActionType: "webhook", Event: &observer.Event{}, Request: []byte(present)}
		got, err := delivery.CheckEdit(d, []byte(tt.changed), editable)
		if string(got) != tt.want || (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
			t.Errorf("%s: %s, %v; want %s, %s", name, got, err, tt.want, tt.fails)
		}
		if string(d.Request) != present {
			t.Errorf("%s: the request was changed", name)
		}
	}
	if _, err := delivery.CheckEdit(&observer.Delivery{Event: &observer.Event{}}, []byte(`{"a":1}`), editable); !errors.Is(err, delivery.ErrNoRequest) {
		t.Errorf("without a request: %v", err)
	}
	if _, err := delivery.CheckEdit(&observer.Delivery{Malformed: &observer.Malformed{}}, []byte(`{"a":1}`), editable); !errors.Is(err, delivery.ErrNotAnEvent) {
		t.Errorf("a log entry: %v", err)
	}
}

// What nobody has said may be changed is not.
func TestCheckEditOfAnUnknownType(t *testing.T) {
	t.Parallel()
	d := &observer.Delivery{ActionType: "pigeon", Event: &observer.Event{}, Request: []byte(`{"loft":"north","text":"a"}`)}
	got, err := delivery.CheckEdit(d, []byte(`{"loft":"north","text":"b"}`), nil)
	if got != nil || err == nil || !strings.Contains(err.Error(), `an action of type "pigeon"`) {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := delivery.CheckEdit(d, []byte(`{"loft":"south","text":"b"}`), []string{"text"}); err == nil || !strings.Contains(err.Error(), `"loft"`) {
		t.Errorf("another address: %v", err)
	}
}

// Reasons has every constant of the type, each once.
func TestReasonsAreComplete(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../delivery.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []observer.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) == 0 || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		if text, ok := spec.Values[0].(*ast.BasicLit); ok {
			value, err := strconv.Unquote(text.Value)
			if err != nil {
				t.Error(err)
			}
			want = append(want, observer.Reason(value))
		}
		return true
	})
	if got := delivery.Reasons(); !slices.Equal(got, want) || len(want) < 10 {
		t.Errorf("reasons %q, want %q", got, want)
	}
}
