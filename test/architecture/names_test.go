package architecture

import (
	"go/ast"
	"path"
	"slices"
	"strings"
)

// packageNamesSayWhatTheyDo: a name that fits everything says nothing.
func packageNamesSayWhatTheyDo(tr *tree) []string {
	empty := []string{"util", "utils", "common", "types", "models", "pkg", "helpers", "misc"}
	var problems []string
	for _, p := range tr.packages() {
		name := p.files[0].ast.Name.Name
		if slices.Contains(empty, name) || slices.Contains(empty, path.Base(p.dir)) {
			problems = append(problems, p.dir+": name the package after what it does")
		}
	}
	return problems
}

// nothingIsCalledImpl: a type that needs the suffix has an interface too many.
func nothingIsCalledImpl(tr *tree) []string {
	var problems []string
	for _, f := range tr.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && strings.HasSuffix(spec.Name.Name, "Impl") {
				problems = append(problems, tr.at(spec)+": "+spec.Name.Name+": say what sets this implementation apart")
			}
			return true
		})
	}
	return problems
}

// packagesAreDocumented: one file of every package says what it is for.
func packagesAreDocumented(tr *tree) []string {
	var problems []string
	for _, p := range tr.packages() {
		if !slices.ContainsFunc(p.files, hasPackageDoc) {
			problems = append(problems, p.dir+": no file has a package comment that begins with \"Package\" and its name")
		}
	}
	return problems
}

func hasPackageDoc(f *goFile) bool {
	name, text := f.ast.Name.Name, f.ast.Doc.Text()
	if name == "main" {
		return text != ""
	}
	return strings.HasPrefix(text, "Package "+strings.TrimSuffix(name, "_test")+" ")
}

// exportedIsDocumented: every exported type, function, method, constant and
// variable outside tests has a comment. A group of constants or variables may
// share one.
func exportedIsDocumented(tr *tree) []string {
	var problems []string
	for _, f := range tr.files {
		if f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			for _, name := range undocumented(decl) {
				problems = append(problems, tr.at(name)+": "+name.Name+" is exported and has no comment")
			}
		}
	}
	return problems
}

func undocumented(decl ast.Decl) []*ast.Ident {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && !isWellKnown(d) && receiverExported(d) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		var names []*ast.Ident
		for _, spec := range d.Specs {
			names = append(names, undocumentedSpec(d, spec)...)
		}
		return names
	}
	return nil
}

func undocumentedSpec(d *ast.GenDecl, spec ast.Spec) []*ast.Ident {
	var names []*ast.Ident
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
			names = append(names, s.Name)
		}
	case *ast.ValueSpec:
		if s.Doc != nil || s.Comment != nil || d.Doc != nil {
			return nil
		}
		for _, name := range s.Names {
			if name.IsExported() {
				names = append(names, name)
			}
		}
	}
	return names
}

// isWellKnown reports whether d is a method whose meaning the standard library
// fixes.
func isWellKnown(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Error", "Unwrap", "String", "Read", "Write", "ServeHTTP", "Len", "Less", "Swap"}, d.Name.Name)
}

// receiverExported reports whether d is a function, or a method of an exported
// type: methods of other types cannot be seen from outside.
func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	expr := d.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	switch x := expr.(type) {
	case *ast.IndexExpr:
		expr = x.X
	case *ast.IndexListExpr:
		expr = x.X
	}
	name, ok := expr.(*ast.Ident)
	return ok && name.IsExported()
}
