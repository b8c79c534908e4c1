package doctor

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// docs/doctor.md has a line for every check, in the order of the report.
func TestDocumentationHasEveryCheck(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, c := range checks() {
		want = append(want, c.name)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains([]string{"ok", "note", "warning", "problem"}, m[1]) {
			got = append(got, m[1])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-checks +documented:\n%s", diff)
	}
}
