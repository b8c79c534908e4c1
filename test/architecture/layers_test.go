package architecture

import (
	"fmt"
	"slices"
	"strings"
)

// layer says which imports within the module a package may have.
type layer int

const (
	root     layer = iota // the vocabulary
	part                  // a moving part: relay, executor, middleware, delivery, lease, condition, template, and anything new
	adapter               // source/*, store/*, action/*, transport/*: one technology each
	suite                 // a conformance suite beside the adapters it tests
	leaf                  // internal/*: knows the root and other leaves
	assembly              // knows everything: topology, config, app, the commands, tests, examples
)

// layerOf places a folder. What it does not know is a moving part, the
// strictest place.
func layerOf(dir string) layer {
	if dir == "." {
		return root
	}
	elements := strings.Split(dir, "/")
	switch elements[0] {
	case "topology", "config", "app", "admin", "cmd", "examples", "test":
		return assembly
	case "source", "store", "action", "transport":
		if strings.HasSuffix(dir, "test") {
			return suite
		}
		return adapter
	case "internal":
		if len(elements) > 1 && slices.Contains([]string{"cli", "demo", "testenv"}, elements[1]) {
			return assembly
		}
		return leaf
	}
	return part
}

// reserved names the few importers of a leaf (or of template) that is not for
// everybody, by prefix.
func reserved() map[string][]string {
	return map[string][]string{
		"template":          {"action/", "test/"},
		"internal/celenv":   {"condition", "template", "internal/celenv"},
		"internal/outbound": {"action/"},
		// Who connects to NATS.
		"internal/natsclient": {"action/nats", "transport/nats"},
	}
}

// rootIsStandardOnly keeps the vocabulary free to embed: implementing one
// interface pulls in nothing.
func rootIsStandardOnly(tr *tree) []string {
	var problems []string
	for _, p := range tr.packages() {
		if p.dir != "." {
			continue
		}
		for _, imp := range p.imports() {
			if !isStandard(imp) {
				problems = append(problems, "the root package imports "+imp+"; it may import the standard library only")
			}
		}
	}
	return problems
}

// layersHold checks every import within the module.
func layersHold(tr *tree) []string {
	var problems []string
	for _, p := range tr.packages() {
		for _, imp := range p.imports() {
			to, ok := inModule(imp)
			if ok && !mayImport(p.dir, to) {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", p.dir, to, explain(layerOf(p.dir))))
			}
		}
	}
	return problems
}

func mayImport(from, to string) bool {
	kind := layerOf(from)
	if kind == assembly {
		return true
	}
	if importers, narrow := reserved()[to]; narrow {
		return slices.ContainsFunc(importers, func(prefix string) bool { return strings.HasPrefix(from, prefix) })
	}
	target := layerOf(to)
	switch kind {
	case root:
		return false
	case suite:
		return target == root || target == leaf || target == suite
	case adapter:
		return target == root || target == leaf || (target == adapter && adapterOf(from) == adapterOf(to))
	default:
		return target == root || target == leaf || strings.HasPrefix(to, from+"/")
	}
}

// adapterOf gives the folder of the whole adapter that a package is part of, such
// as source/postgres for source/postgres/changelog. The parts of one adapter may
// import each other.
func adapterOf(dir string) string {
	elements := strings.Split(dir, "/")
	return strings.Join(elements[:min(2, len(elements))], "/")
}

func explain(l layer) string {
	switch l {
	case root:
		return "the root package imports nothing of the module"
	case adapter:
		return "an adapter knows the root package and internal leaves (an action also template), never another adapter"
	case suite:
		return "a conformance suite knows the root package, never an adapter"
	case leaf:
		return "an internal leaf knows the root package and other leaves"
	default:
		return "a moving part knows the root package and internal leaves; topology joins the parts"
	}
}

// companions are modules that serve any adapter and are not the technology it
// is named after.
func companions() []string {
	return []string{"github.com/fsnotify/fsnotify", "github.com/pressly/goose/v3", "github.com/google/uuid", "github.com/gofrs/flock"}
}

// adaptersHaveOneTechnology: an adapter that needs two technologies is two.
func adaptersHaveOneTechnology(tr *tree) []string {
	var problems []string
	for _, p := range tr.packages() {
		if layerOf(p.dir) != adapter {
			continue
		}
		if used := tr.technologies(p); len(used) > 1 {
			problems = append(problems, fmt.Sprintf("%s depends on %s: an adapter has one technology", p.dir, strings.Join(used, " and ")))
		}
	}
	return problems
}

func (tr *tree) technologies(p pkg) []string {
	var used []string
	for _, imp := range p.imports() {
		if _, own := inModule(imp); own || isStandard(imp) {
			continue
		}
		if dep := tr.dependency(imp); !slices.Contains(companions(), dep) {
			used = append(used, dep)
		}
	}
	slices.Sort(used)
	return slices.Compact(used)
}

// confined names the folders, by prefix, that a dependency is for. A dependency
// that is not listed is for adapters and assembly.
func confined() map[string][]string {
	return map[string][]string{
		"cel.dev/cel-go":                     {"condition", "template", "internal/celenv"},
		"code.dny.dev/ssrf":                  {"internal/outbound"},
		"github.com/spf13/cobra":             {"cmd/", "internal/cli"},
		"github.com/pelletier/go-toml/v2":    {"config"},
		"github.com/caarlos0/env/v11":        {"config"},
		"github.com/failsafe-go/failsafe-go": {"middleware"},
		// A server is for trying things out and for tests.
		"github.com/nats-io/nats-server/v2": {"transport/nats/embedded", "internal/testenv"},
	}
}

// dependenciesStayWhereTheyBelong keeps the moving parts free of technology.
func dependenciesStayWhereTheyBelong(tr *tree) []string {
	var problems []string
	for _, p := range tr.packages() {
		for _, imp := range p.imports() {
			if _, own := inModule(imp); own || isStandard(imp) {
				continue
			}
			if dep := tr.dependency(imp); !mayDependOn(p.dir, dep) {
				problems = append(problems, fmt.Sprintf("%s imports %s, which is not for it (see confined in this test)", p.dir, dep))
			}
		}
	}
	return problems
}

func mayDependOn(dir, dep string) bool {
	if homes, narrow := confined()[dep]; narrow {
		return slices.ContainsFunc(homes, func(prefix string) bool { return strings.HasPrefix(dir, prefix) })
	}
	switch layerOf(dir) {
	case root, part:
		return false
	default:
		return true
	}
}
