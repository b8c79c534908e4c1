package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fraiseql/observer"

// goFile is one parsed Go file of the root module, whatever its build tags:
// a rule holds on every platform.
type goFile struct {
	path string // slash-separated, from the root of the repository
	test bool
	src  string
	ast  *ast.File
}

func (f *goFile) dir() string { return path.Dir(f.path) }

// tree is the repository as the rules see it.
type tree struct {
	fset  *token.FileSet
	files []*goFile
	// texts are the other files people write, by path.
	texts map[string]string
	// paths are all files and folders, "." for the root.
	paths map[string]bool
}

// load reads the files of the root module. Folders of other modules, of test
// data and of tools that keep their state in a dot folder are left out.
func load(t *testing.T, fsys fs.FS) *tree {
	t.Helper()
	tr := &tree{fset: token.NewFileSet(), texts: map[string]string{}, paths: map[string]bool{}}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && foreign(fsys, p) {
			tr.paths[p] = true
			return fs.SkipDir
		}
		tr.paths[p] = true
		if d.IsDir() {
			return nil
		}
		return tr.add(fsys, p)
	})
	if err != nil {
		t.Fatalf("read the tree: %v", err)
	}
	return tr
}

func foreign(fsys fs.FS, dir string) bool {
	name := path.Base(dir)
	if dir == "." || name == ".ci" {
		return false
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" {
		return true
	}
	_, err := fs.Stat(fsys, dir+"/go.mod")
	return err == nil
}

func (tr *tree) add(fsys fs.FS, p string) error {
	isGo := path.Ext(p) == ".go"
	if !isGo && !isText(p) {
		return nil
	}
	src, err := fs.ReadFile(fsys, p)
	if err != nil {
		return err
	}
	if !isGo {
		tr.texts[p] = string(src)
		return nil
	}
	file, err := parser.ParseFile(tr.fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	tr.files = append(tr.files, &goFile{path: p, test: strings.HasSuffix(p, "_test.go"), src: string(src), ast: file})
	return nil
}

func isText(p string) bool {
	return slices.Contains([]string{".md", ".sql", ".sh", ".toml", ".yml", ".yaml"}, path.Ext(p)) ||
		slices.Contains([]string{"Makefile", ".ci/run", "go.mod"}, p)
}

// at writes a position the way compilers do, so that editors can follow it.
func (tr *tree) at(n ast.Node) string {
	p := tr.fset.Position(n.Pos())
	return p.String()
}

// pkg is a folder with Go files.
type pkg struct {
	dir   string
	files []*goFile
}

func (tr *tree) packages() []pkg {
	byDir := map[string]*pkg{}
	var dirs []string
	for _, f := range tr.files {
		if byDir[f.dir()] == nil {
			byDir[f.dir()] = &pkg{dir: f.dir()}
			dirs = append(dirs, f.dir())
		}
		byDir[f.dir()].files = append(byDir[f.dir()].files, f)
	}
	slices.Sort(dirs)
	var all []pkg
	for _, dir := range dirs {
		all = append(all, *byDir[dir])
	}
	return all
}

// imports are what the package itself imports, its tests left out.
func (p pkg) imports() []string {
	var all []string
	for _, f := range p.files {
		if f.test {
			continue
		}
		for _, spec := range f.ast.Imports {
			all = append(all, strings.Trim(spec.Path.Value, `"`))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inModule gives the folder of an import of this module, "." for its root.
func inModule(imp string) (dir string, ok bool) {
	if imp == module {
		return ".", true
	}
	return strings.CutPrefix(imp, module+"/")
}

// isStandard reports whether imp is in the standard library: its first element
// has no dot.
func isStandard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

// dependency gives the module of go.mod that holds imp, or imp itself.
func (tr *tree) dependency(imp string) string {
	best := imp
	found := false
	for _, m := range requirement().FindAllStringSubmatch(tr.texts["go.mod"], -1) {
		mod := m[1]
		if (imp == mod || strings.HasPrefix(imp, mod+"/")) && (!found || len(mod) > len(best)) {
			best, found = mod, true
		}
	}
	return best
}

func requirement() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^(?:require)?\s+([a-z0-9.-]+\.[a-z]+/\S+) v`)
}
