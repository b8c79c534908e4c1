package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fraiseql/observer"
)

func (o *Observer) read(s *scope) {
	s.fields(o)
	s.checkName(o.Name)
	s.checkEntity(o.Entity)
	s.checkEventTypes(o.EventTypes)
	s.checkCondition(o.Condition)
	s.checkOnDead(o)
	if len(o.Actions) == 0 && !s.failed("actions") {
		s.failKey("actions", "is missing: an observer needs at least one [[observers.actions]]")
	}
	for i := range o.Actions {
		if a := &o.Actions[i]; a.Mode == "" {
			a.Mode = o.Mode
		}
	}
	s.later = append(s.later, func(c *Config) {
		if o.OnFailure == "alert" && o.Alert == nil && c.Alert == nil {
			s.failKey("on_failure", "is alert, but there is no [alert] section and no alert in this observer")
		}
		o.resolveRetries(s, c.JobQueue)
	})
}

// checkOnDead reports an on_dead that could never come into force.
func (s *scope) checkOnDead(o *Observer) {
	const key = "on_dead"
	switch {
	case s.failed(key) || s.failed("order") || s.failed("on_failure"):
	case o.Order != observer.OrderStrict && s.given(key):
		s.failKey(key, `is for order = "strict": nothing waits for an earlier change here`)
	case o.OnDead == OnDeadBlock && o.OnFailure == "log":
		s.failKey(key, `is block, but on_failure = "log" keeps no dead letter that could block: write on_dead = "continue", or another on_failure`)
	}
}

func (s *scope) checkEntity(entity string) {
	const key = "entity"
	switch {
	case s.failed(key):
	case entity == "":
		s.failKey(key, `is missing: name an entity type, or "*" for every one`)
	case strings.TrimSpace(entity) != entity:
		s.failKey(key, "has spaces around it")
	}
}

func (s *scope) checkEventTypes(types []observer.Operation) {
	const key = "event_type"
	if s.failed(key) {
		return
	}
	if types != nil && len(types) == 0 {
		s.failKey(key, "is empty: leave it out for all, or list some")
	}
	var known []string
	for _, op := range observer.Operations() {
		known = append(known, string(op))
	}
	for i, op := range types {
		switch {
		case slices.Contains(types[:i], op):
			s.fail(s.elementOffset(key, i), join(s.path, key), "has %s twice", s.vault.redactor.Redact(string(op)))
		case !slices.Contains(known, string(op)):
			s.fail(s.elementOffset(key, i), join(s.path, key), "unknown event type %s%s",
				s.vault.safe(strconv.Quote(string(op))), suggestion(string(op), known, nil))
		}
	}
}

// elementOffset is where an element of a list begins.
func (s *scope) elementOffset(key string, i int) int {
	if v := s.table[key]; v != nil {
		if items, ok := v.list(); ok && i < len(items) {
			return items[i].at
		}
	}
	return s.offset(key)
}

// located is how the compilers of conditions and templates say where in the text
// they stopped.
var located = regexp.MustCompile(`^(?:line (\d+), )?column (\d+): `)

func (s *scope) checkCondition(text string) {
	const key = "condition"
	if s.failed(key) || text == "" {
		return
	}
	compiler, err := s.conditions()
	if err == nil {
		_, err = compiler.Compile(text)
	}
	if err == nil {
		return
	}
	s.failText(key, err)
}

// failText reports what a compiler says about the text under key. A place inside
// the text becomes a place in the file where the text stands in it as it is.
func (s *scope) failText(key string, err error) {
	message, offset := err.Error(), s.offset(key)
	if found := located.FindStringSubmatch(message); found != nil {
		if inside, ok := s.inside(key, found[1], found[2]); ok {
			offset, message = inside, message[len(found[0]):]
		}
	}
	s.fail(offset, join(s.path, key), "%s", s.vault.safe(message))
}

// inside is the offset in the file of a line and column of the text under key,
// if the file has the text without escapes and variables.
func (s *scope) inside(key, line, column string) (int, bool) {
	v := s.table[key]
	if v == nil || s.origins[join(s.path, key)] != "" {
		return 0, false
	}
	text, _ := v.data.(string)
	start := strings.Index(v.raw, text)
	if start < 0 || reference.MatchString(text) {
		return 0, false
	}
	lineNumber, _ := strconv.Atoi(line) // "" is the first line
	columnNumber, _ := strconv.Atoi(column)
	offset := 0
	for range lineNumber - 1 {
		offset += strings.IndexByte(text[offset:], '\n') + 1
	}
	for range columnNumber - 1 {
		_, size := utf8.DecodeRuneInString(text[offset:])
		offset += size
	}
	return v.at + start + offset, true
}
