package condition_test

import (
	"os"
	"strings"
	"testing"
)

// TestDocumentedRules holds docs/conditions.md to its word where no other test
// does.
func TestDocumentedRules(t *testing.T) {
	t.Parallel()
	checkMatches(t, update, true,
		`7 / 2 == 3`, `0.1 + 0.2 != 0.3`, `1 < 1.5`, `1 + 1.5 == 2.5`, `event.duration_ms == 12 && data.count == 3.0`,
		`(data.count + 4) / 2 == 3.5`, `data.status == 'shipped' || data.missing == 1`, `!(data.flag == false && data.missing == 1)`,
		`true ? true : data.missing`, `base64.encode(b'hi') == 'aGk='`, `base64.decode('aGk=') == b'hi'`,
		`event.timestamp.getHours() == 9`, `event.timestamp.getHours('+02:00') == 11`, `int(2.9) == 2`, `fixed(2.0, 2) == '2.00'`,
		`data.name.contains('d') && data.name.startsWith('A') && data.name.upperAscii() == 'ADA'`,
		`'a-b'.split('-') == ['a', 'b'] && ' x '.trim() == 'x' && 'abc'.indexOf('c') == 2 && 'abc'.charAt(1) == 'b'`,
		`'aXbX'.replace('X', '-') == 'a-b-' && 'aXbX'.replace('X', '-', 1) == 'a-bX' && 'aba'.lastIndexOf('a') == 2`,
		`['a', '', 'b'].join('-') == 'a--b' && ['', 'a'].join('-') == '-a' && [].join() == ''`,
		`data.items.exists_one(i, i.qty > 3)`, `has(data.none) && data.none == null`,
	)
	for src, want := range map[string]string{
		`event.duration_ms == 12.0`:       `== cannot be applied to (int or null, double)`,
		`data.x == 123456789012345678901`: `invalid int literal`,
		`json.encode(data) == ''`:         `unknown name`,
		`'%d'.format([1]) == '1'`:         `unknown name "format"`,
	} {
		if _, err := compileAlone(src); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v does not say %q", src, err, want)
		}
	}
}

// TestExamplesOfTheDocumentationCompile compiles every condition = "..." line.
func TestExamplesOfTheDocumentationCompile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/conditions.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		src, isCondition := strings.CutPrefix(strings.TrimSpace(line), `condition = "`)
		if !isCondition {
			continue
		}
		found++
		compile(t, strings.TrimSuffix(src, `"`))
	}
	if found == 0 {
		t.Error("docs/conditions.md has no example")
	}
}
