package architecture

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	invariantsDoc  = "docs/invariants.md"
	invariantCount = 10
	later          = "not in this version"
)

// invariantsAreTested: each invariant has a row that says where it is enforced
// and names tests that exist. Only those of features that are not built yet may
// say so instead.
func invariantsAreTested(tr *tree) []string {
	doc, ok := tr.texts[invariantsDoc]
	if !ok {
		return []string{invariantsDoc + " is missing: it names the test of every invariant"}
	}
	rows := invariantRows(doc)
	tests := tr.testFunctions()
	var problems []string
	for n := 1; n <= invariantCount; n++ {
		row, ok := rows[n]
		if !ok {
			problems = append(problems, fmt.Sprintf("%s has no row for invariant %d", invariantsDoc, n))
			continue
		}
		for _, problem := range tr.checkInvariant(n, row, tests) {
			problems = append(problems, fmt.Sprintf("%s: invariant %d %s", invariantsDoc, n, problem))
		}
	}
	return problems
}

type invariantRow struct{ enforced, test string }

// invariantRows reads the rows | number | invariant | enforced in | test |.
func invariantRows(doc string) map[int]invariantRow {
	rows := map[int]invariantRow{}
	for line := range strings.SplitSeq(doc, "\n") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if len(cells) != 4 {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(cells[0])); err == nil {
			rows[n] = invariantRow{enforced: cells[2], test: cells[3]}
		}
	}
	return rows
}

func (tr *tree) checkInvariant(n int, row invariantRow, tests map[string]bool) []string {
	if strings.Contains(row.test, later) {
		if slices.Contains([]int{3, 5, 8}, n) {
			return nil
		}
		return []string{"is of this version and must have a test"}
	}
	var problems []string
	for _, place := range codeSpans(row.enforced) {
		if !tr.paths[strings.TrimSuffix(place, "/")] {
			problems = append(problems, "is enforced in "+place+", which does not exist")
		}
	}
	names := codeSpans(row.test)
	if !namedAfter(n, names) {
		problems = append(problems, fmt.Sprintf("names no test that begins with TestInvariant%d", n))
	}
	for _, name := range names {
		if !tests[name] {
			problems = append(problems, "names the test "+name+", which does not exist")
		}
	}
	return problems
}

// namedAfter reports whether one of the tests carries the invariant's number.
func namedAfter(n int, tests []string) bool {
	own := regexp.MustCompile(fmt.Sprintf(`^TestInvariant%d([^0-9]|$)`, n))
	return slices.ContainsFunc(tests, own.MatchString)
}

func codeSpans(text string) []string {
	var spans []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		spans = append(spans, m[1])
	}
	return spans
}

// testFunctions are the names of the tests and fuzz targets of the tree.
func (tr *tree) testFunctions() map[string]bool {
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]*)\(`)
	for _, f := range tr.files {
		if !f.test {
			continue
		}
		for _, m := range declared.FindAllStringSubmatch(f.src, -1) {
			names[m[1]] = true
		}
	}
	return names
}

// invariantsAreCitedByNumber: a comment that cites an invariant cites one that
// is listed.
func invariantsAreCitedByNumber(tr *tree) []string {
	cited := regexp.MustCompile(`\bInvariant ([0-9]+)`)
	var problems []string
	for _, f := range tr.files {
		for _, group := range f.ast.Comments {
			for _, m := range cited.FindAllStringSubmatch(group.Text(), -1) {
				if n, err := strconv.Atoi(m[1]); err != nil || n < 1 || n > invariantCount {
					problems = append(problems, tr.at(group)+": cites invariant "+m[1]+", which is not listed")
				}
			}
		}
	}
	return problems
}

// linksResolve: every link from one document to another, or to a heading,
// leads somewhere.
func linksResolve(tr *tree) []string {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	var problems []string
	for _, doc := range tr.documents() {
		for _, m := range link.FindAllStringSubmatch(withoutFences(tr.texts[doc]), -1) {
			if problem := tr.checkLink(doc, m[1]); problem != "" {
				problems = append(problems, doc+": "+problem)
			}
		}
	}
	return problems
}

func (tr *tree) documents() []string {
	docs := slices.Sorted(maps.Keys(tr.texts))
	return slices.DeleteFunc(docs, func(p string) bool { return path.Ext(p) != ".md" })
}

func (tr *tree) checkLink(doc, link string) string {
	if strings.Contains(link, ":") {
		return "" // another site, or mail
	}
	file, anchor, hasAnchor := strings.Cut(link, "#")
	target := doc
	if file != "" {
		target = path.Join(path.Dir(doc), file)
	}
	if !tr.paths[target] {
		return "link to " + link + ", which does not exist"
	}
	if hasAnchor && !slices.Contains(anchors(tr.texts[target]), anchor) {
		return "link to " + link + ": no such heading"
	}
	return ""
}

// anchors are the names that headings get: lower case, punctuation dropped,
// spaces as dashes.
func anchors(doc string) []string {
	heading := regexp.MustCompile(`(?m)^#+ +(.+)$`)
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	var names []string
	for _, m := range heading.FindAllStringSubmatch(withoutFences(doc), -1) {
		name := dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

func withoutFences(doc string) string {
	return regexp.MustCompile("(?ms)^ *```.*?^ *```").ReplaceAllString(doc, "")
}

// makeTargetsExist: a document never tells to run a target that is not there,
// and every target says in the help what it does.
func makeTargetsExist(tr *tree) []string {
	makefile, ok := tr.texts["Makefile"]
	if !ok {
		return []string{"Makefile is missing"}
	}
	var problems []string
	for _, doc := range tr.documents() {
		for _, span := range commands(tr.texts[doc]) {
			for _, m := range regexp.MustCompile(`(?m)^\s*(?:\$ )?make ([a-z][a-z-]*)`).FindAllStringSubmatch(span, -1) {
				if !strings.Contains(makefile, "\n"+m[1]+":") {
					problems = append(problems, doc+": make "+m[1]+": no such target")
				}
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\.PHONY: (\S+)\n(.*)$`).FindAllStringSubmatch(makefile, -1) {
		if !strings.HasPrefix(m[2], m[1]+":") || !strings.Contains(m[2], " ## ") {
			problems = append(problems, "Makefile: the line after .PHONY: "+m[1]+" must be the target with its ## help")
		}
	}
	return problems
}

// commands are the code spans and fenced blocks of a document: prose may use
// the word make.
func commands(doc string) []string {
	fence := regexp.MustCompile("(?ms)^ *```[^\n]*\n(.*?)^ *```")
	var all []string
	for _, m := range fence.FindAllStringSubmatch(doc, -1) {
		all = append(all, m[1])
	}
	return append(all, codeSpans(withoutFences(doc))...)
}

// frontDoorsExist: the files a newcomer looks for.
func frontDoorsExist(tr *tree) []string {
	var problems []string
	for _, p := range []string{"README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "ARCHITECTURE.md", ".ci/run", "docs/adr/README.md"} {
		if !tr.paths[p] {
			problems = append(problems, p+" is missing")
		}
	}
	return problems
}

// decisionsAreRecordedAlike: decision records are numbered without gaps, have
// the three sections, are short, and stand in the list.
func decisionsAreRecordedAlike(tr *tree) []string {
	name := regexp.MustCompile(`^docs/adr/([0-9]{4})-[a-z0-9-]+\.md$`)
	index := tr.texts["docs/adr/README.md"]
	var problems []string
	next := 0
	for _, doc := range tr.documents() {
		m := name.FindStringSubmatch(doc)
		if m == nil {
			continue
		}
		if m[1] != fmt.Sprintf("%04d", next) {
			problems = append(problems, fmt.Sprintf("%s: want number %04d", doc, next))
		}
		next++
		text := tr.texts[doc]
		for _, section := range []string{"\n## Context\n", "\n## Decision\n", "\n## Consequences\n"} {
			if !strings.Contains(text, section) {
				problems = append(problems, doc+": no section "+strings.TrimSpace(section))
			}
		}
		if n := strings.Count(text, "\n"); n > 60 {
			problems = append(problems, fmt.Sprintf("%s: %d lines; a decision fits on a page", doc, n))
		}
		if !strings.Contains(index, "("+path.Base(doc)+")") {
			problems = append(problems, "docs/adr/README.md does not list "+path.Base(doc))
		}
	}
	return problems
}
