package architecture

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

type rule func(*tree) []string

// rules are the rules by the name their failure carries.
func rules() map[string]rule {
	return map[string]rule{
		"root imports the standard library only":   rootIsStandardOnly,
		"layers hold":                              layersHold,
		"adapters have one technology":             adaptersHaveOneTechnology,
		"dependencies stay where they belong":      dependenciesStayWhereTheyBelong,
		"package names say what they do":           packageNamesSayWhatTheyDo,
		"nothing is called impl":                   nothingIsCalledImpl,
		"packages are documented":                  packagesAreDocumented,
		"exported identifiers are documented":      exportedIsDocumented,
		"files stay short":                         filesStayShort,
		"no unfinished marks":                      noUnfinishedMarks,
		"nothing sleeps":                           nothingSleeps,
		"every nolint has a reason":                everyNolintHasAReason,
		"files are formatted":                      filesAreFormatted,
		"invariants are tested":                    invariantsAreTested,
		"invariants are cited by number":           invariantsAreCitedByNumber,
		"links resolve":                            linksResolve,
		"make targets exist":                       makeTargetsExist,
		"the files a newcomer looks for are there": frontDoorsExist,
		"decisions are recorded alike":             decisionsAreRecordedAlike,
	}
}

// TestTree runs every rule over this repository.
func TestTree(t *testing.T) {
	t.Parallel()
	tr := load(t, os.DirFS("../.."))
	if len(tr.files) < 10 {
		t.Fatalf("found %d Go files: this is not the repository", len(tr.files))
	}
	for name, check := range rules() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, problem := range check(tr) {
				t.Error(problem)
			}
		})
	}
}

// TestRulesCatch breaks every rule once: a rule that cannot fail guards nothing.
func TestRulesCatch(t *testing.T) {
	t.Parallel()
	broken := map[string]bool{}
	for _, c := range violations() {
		broken[c.rule] = true
		t.Run(c.rule+"/"+c.want, func(t *testing.T) {
			t.Parallel()
			problems := rules()[c.rule](load(t, inMemory(c.files)))
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("problems %q, want one with %q", problems, c.want)
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(rules())) {
		if !broken[name] {
			t.Errorf("no violation shows that the rule %q can fail", name)
		}
	}
}

// TestRulesAccept runs the rules over a tree that breaks none, so that what is
// allowed on purpose stays allowed.
func TestRulesAccept(t *testing.T) {
	t.Parallel()
	tr := load(t, inMemory(goodTree()))
	for name, check := range rules() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, problem := range check(tr) {
				t.Error(problem)
			}
		})
	}
}

func inMemory(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for p, content := range files {
		fsys[p] = &fstest.MapFile{Data: []byte(content)}
	}
	return fsys
}
