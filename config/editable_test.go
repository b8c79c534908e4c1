package config_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer/config"
)

// Whoever adds an action type, or a part to its request, decides here whether it
// says where the request goes.
func TestNoAddressIsEditable(t *testing.T) {
	t.Parallel()
	addressed := map[string][]string{
		"webhook": {"method", "url"},
		"slack":   {},
		"email":   {"from", "to", "cc", "bcc", "reply_to"},
		"log":     {},
		"sms":     {"to"},
		"push":    {"target"},
		"teams":   {},
		"discord": {},

		"database": {"function"},
		"cache":    {"action"},
		"nats":     {"subject"},
		"search":   {"operation", "index", "id", "version"},
	}
	for _, kind := range config.ActionTypes() {
		fixed, ok := addressed[kind]
		if !ok {
			t.Errorf("nobody has said which parts of the request of %s are its address", kind)
		}
		parts, editable := requestOf(t, kind), config.Editable(kind)
		if len(editable) == 0 {
			t.Errorf("nothing of the request of %s can be changed: config.Editable does not know it", kind)
		}
		decided := slices.Sorted(slices.Values(slices.Concat(fixed, editable)))
		if diff := cmp.Diff(slices.Sorted(slices.Values(parts)), decided); diff != "" {
			t.Errorf("the parts of the request of %s, and those that are its address or editable:\n%s", kind, diff)
		}
	}
}

// requestOf are the names of the parts of the stored requests of an action type,
// which every action declares as the type request.
func requestOf(t *testing.T, kind string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "action", kind, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != "request" {
				return true
			}
			parts = append(parts, partsOf(t, kind, spec)...)
			return false
		})
	}
	if len(parts) == 0 {
		t.Errorf("package action/%s declares no type request with the parts that are stored", kind)
	}
	return parts
}

func partsOf(t *testing.T, kind string, spec *ast.TypeSpec) (parts []string) {
	t.Helper()
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		t.Errorf("the type request of action/%s is not a struct", kind)
		return nil
	}
	for _, field := range fields.Fields.List {
		tag := ""
		if field.Tag != nil {
			text, err := strconv.Unquote(field.Tag.Value)
			if err != nil {
				t.Fatal(err)
			}
			tag, _, _ = strings.Cut(reflect.StructTag(text).Get("json"), ",")
		}
		if tag == "" || len(field.Names) != 1 {
			t.Errorf("a part of the request of action/%s has no name of its own in JSON", kind)
		}
		parts = append(parts, tag)
	}
	return parts
}
