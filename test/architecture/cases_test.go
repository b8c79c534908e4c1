package architecture

import (
	"fmt"
	"strings"
)

// violation is a tree that breaks a rule, and part of what the rule says.
type violation struct {
	rule, want string
	files      map[string]string
}

const gomod = "module github.com/fraiseql/observer\n\nrequire (\n\tcel.dev/cel-go v0.33.2\n\tgithub.com/fsnotify/fsnotify v1.0.0\n\tmodernc.org/sqlite v1.0.0\n\tgithub.com/spf13/cobra v1.0.0\n\tgithub.com/wneessen/go-mail v0.8.1\n\tgithub.com/nats-io/nats-server/v2 v2.15.2\n)\n"

// importing is a package that imports the given paths.
func importing(name string, paths ...string) string {
	var src strings.Builder
	fmt.Fprintf(&src, "// Package %s is.\npackage %s\n", name, name)
	for i, p := range paths {
		if i == 0 {
			src.WriteString("\n")
		}
		fmt.Fprintf(&src, "import _ %q\n", p)
	}
	return src.String()
}

func one(path, content string) map[string]string {
	return map[string]string{path: content, "go.mod": gomod}
}

func violations() []violation {
	all := layerViolations()
	all = append(all, sourceViolations()...)
	return append(all, documentViolations()...)
}

func layerViolations() []violation {
	layers := "layers hold"
	return []violation{
		{"root imports the standard library only", "modernc.org/sqlite", one("x.go", importing("observer", "modernc.org/sqlite"))},
		{"root imports the standard library only", "relay", one("x.go", importing("observer", module+"/relay"))},
		{layers, "relay imports executor", one("relay/x.go", importing("relay", module+"/executor"))},
		{layers, "middleware imports source/sqlite", one("middleware/x.go", importing("middleware", module+"/source/sqlite"))},
		{layers, "executor imports internal/celenv", one("executor/x.go", importing("executor", module+"/internal/celenv"))},
		{layers, "source/sqlite imports store/sqlite", one("source/sqlite/x.go", importing("sqlite", module+"/store/sqlite"))},
		{layers, "source/postgres/changelog imports source/sqlite", one("source/postgres/changelog/x.go", importing("changelog", module+"/source/sqlite"))},
		{layers, "source/sqlite imports source/postgres/changelog", one("source/sqlite/x.go", importing("sqlite", module+"/source/postgres/changelog"))},
		{layers, "action/slack imports action/webhook", one("action/slack/x.go", importing("slack", module+"/action/webhook"))},
		{layers, "transport/nats imports relay", one("transport/nats/x.go", importing("nats", module+"/relay"))},
		{layers, "transport/nats imports source/sqlite", one("transport/nats/x.go", importing("nats", module+"/source/sqlite"))},
		{layers, "transport/nats imports internal/outbound", one("transport/nats/x.go", importing("nats", module+"/internal/outbound"))},
		{layers, "source/sqlite imports internal/natsclient", one("source/sqlite/x.go", importing("sqlite", module+"/internal/natsclient"))},
		{layers, "store/memory imports template", one("store/memory/x.go", importing("memory", module+"/template"))},
		{layers, "store/storetest imports store/memory", one("store/storetest/x.go", importing("storetest", module+"/store/memory"))},
		{layers, "internal/backoff imports relay", one("internal/backoff/x.go", importing("backoff", module+"/relay"))},
		{layers, "lease imports store/memory", one("lease/x.go", importing("lease", module+"/store/memory"))},
		{layers, "lease imports relay", one("lease/x.go", importing("lease", module+"/relay"))},
		{layers, "reconcile imports relay", one("reconcile/x.go", importing("reconcile", module+"/relay"))},
		{layers, "reconcile imports transport/nats", one("reconcile/x.go", importing("reconcile", module+"/transport/nats"))},
		{layers, "novelty imports topology", one("novelty/x.go", importing("novelty", module+"/topology"))},
		{"adapters have one technology", "go-mail and modernc.org/sqlite", one("action/email/x.go", importing("email", "modernc.org/sqlite", "github.com/wneessen/go-mail"))},
		{"dependencies stay where they belong", "relay imports modernc.org/sqlite", one("relay/x.go", importing("relay", "modernc.org/sqlite/lib"))},
		{"dependencies stay where they belong", "app imports github.com/spf13/cobra", one("app/x.go", importing("app", "github.com/spf13/cobra"))},
		{"dependencies stay where they belong", "transport/nats imports github.com/nats-io/nats-server/v2", one("transport/nats/x.go", importing("nats", "github.com/nats-io/nats-server/v2/server"))},
		{"package names say what they do", "relay/util", one("relay/util/x.go", importing("util"))},
		{"nothing is called impl", "storeImpl", one("relay/x.go", "package relay\n\ntype storeImpl struct{}\n")},
	}
}

func sourceViolations() []violation {
	exported := "exported identifiers are documented"
	sleep := "package relay\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"
	return []violation{
		{"packages are documented", "relay", one("relay/x.go", "// A package.\npackage relay\n")},
		{exported, "F is exported", one("relay/x.go", "package relay\n\nfunc F() {}\n")},
		{exported, "T is exported", one("relay/x.go", "package relay\n\ntype (\n\tT int\n)\n")},
		{exported, "C is exported", one("relay/x.go", "package relay\n\nconst C = 1\n")},
		{exported, "M is exported", one("relay/x.go", "package relay\n\n// T is.\ntype T[A any] struct{}\n\nfunc (t *T[A]) M() {}\n")},
		{"files stay short", "501 lines", one("relay/x.go", "package relay\n"+strings.Repeat("\n", 500))},
		{"files stay short", "701 lines", one("relay/x_test.go", "package relay\n"+strings.Repeat("\n", 700))},
		{"no unfinished marks", "relay/x.go:2", one("relay/x.go", "package relay\n// TO"+"DO: all of it\n")},
		{"no unfinished marks", "docs/x.md:1", one("docs/x.md", "FIX"+"ME later\n")},
		{"nothing sleeps", "relay/x.go:5", one("relay/x.go", sleep)},
		{"nothing sleeps", "relay/x_test.go:5", one("relay/x_test.go", sleep)},
		{"every nolint has a reason", "relay/x.go:2", one("relay/x.go", "package relay\n//nolint:gosec\n")},
		{"every nolint has a reason", "relay/x.go:2", one("relay/x.go", "package relay\n//nolint // because it is right\n")},
		{"files are formatted", "relay/x.go", one("relay/x.go", "package relay\nvar  x = 1\n")},
	}
}

func documentViolations() []violation {
	tested, links := "invariants are tested", "links resolve"
	return []violation{
		{tested, "is missing", one("x.go", "package observer\n")},
		{tested, "no row for invariant 2", one(invariantsDoc, "| 1 | x | `go.mod` | `TestX` |\n")},
		{tested, "names the test TestX", one(invariantsDoc, "| 1 | x | `go.mod` | `TestX` |\n")},
		{tested, "names no test that begins with TestInvariant1", one(invariantsDoc, "| 1 | x | `go.mod` | missing |\n")},
		{tested, "names no test that begins with TestInvariant1", one(invariantsDoc, "| 1 | x | `go.mod` | `TestInvariant10` |\n")},
		{tested, "enforced in relay/lanes.go", one(invariantsDoc, "| 1 | x | `relay/lanes.go` | `TestX` |\n")},
		{tested, "must have a test", one(invariantsDoc, "| 1 | x | - | not in this version |\n")},
		{"invariants are cited by number", "invariant 11", one("relay/x.go", "package relay\n\n// Invariant 11.\n")},
		{links, "missing.md", one("README.md", "[a](docs/missing.md)\n")},
		{links, "no such heading", one("README.md", "# Title\n\n[a](#other)\n")},
		{"make targets exist", "make nothing", map[string]string{"Makefile": "all:\n", "README.md": "```\nmake nothing\n```\n"}},
		{"make targets exist", "must be the target", map[string]string{"Makefile": ".PHONY: all\nall:\n"}},
		{"the files a newcomer looks for are there", "LICENSE", one("x.go", "package observer\n")},
		{"decisions are recorded alike", "want number 0000", one("docs/adr/0001-x.md", "# x\n")},
		{"decisions are recorded alike", "no section ## Decision", one("docs/adr/0000-x.md", "# x\n\n## Context\n\nx\n")},
		{"decisions are recorded alike", "does not list", one("docs/adr/0000-x.md", "# x\n")},
	}
}

// goodTree breaks no rule and uses what the rules allow.
func goodTree() map[string]string {
	var rows, tests strings.Builder
	for n := 1; n <= invariantCount; n++ {
		fmt.Fprintf(&rows, "| %d | x | `relay/relay.go` | `TestInvariant%dHolds` |\n", n, n)
		fmt.Fprintf(&tests, "\nfunc TestInvariant%dHolds() {}\n", n)
	}
	return map[string]string{
		"go.mod":                 gomod,
		"doc.go":                 importing("observer", "context"),
		"relay/relay.go":         importing("relay", module, module+"/internal/backoff") + "\n// Invariant 1 holds.\n",
		"relay/relay_test.go":    "package relay\n\nfunc TestRelay() { synctest.Test(func() { time.Sleep(1) }) } //nolint:forbidigo // virtual time\n" + tests.String(),
		"internal/backoff/b.go":  importing("backoff"),
		"reconcile/r.go":         importing("reconcile", module, module+"/internal/backoff"),
		"condition/c.go":         importing("condition", module, module+"/internal/celenv", "cel.dev/cel-go/cel"),
		"internal/celenv/c.go":   importing("celenv", "cel.dev/cel-go/cel"),
		"template/t.go":          importing("template", module, module+"/internal/celenv"),
		"action/webhook/w.go":    importing("webhook", module, module+"/template", module+"/internal/outbound"),
		"internal/outbound/o.go": importing("outbound", module),
		"source/sqlite/s.go":     importing("sqlite", module, "modernc.org/sqlite", "github.com/fsnotify/fsnotify"),
		"topology/t.go":          importing("topology", module+"/source/sqlite", module+"/relay"),
		"cmd/x/main.go":          "// Command x runs.\npackage main\n",
		"tools/go.mod":           "module tools\n",
		"tools/x.go":             "package not_looked_at\n\nfunc F() {}\n",
		"Makefile":               ".PHONY: test\ntest: ## Test\n",
		"README.md":              "# A title, `here`\n\n`make test`, we make do. [a](#a-title-here) [b](docs/adr/README.md)\n",
		"LICENSE":                "", "CONTRIBUTING.md": "", "CHANGELOG.md": "", "ARCHITECTURE.md": "", ".ci/run": "",
		invariantsDoc:        rows.String(),
		"docs/adr/README.md": "[x](0000-x.md)\n",
		"docs/adr/0000-x.md": "# x\n\n## Context\n\n## Decision\n\n## Consequences\n",
	}
}
