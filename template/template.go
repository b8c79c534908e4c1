// Package template renders texts with CEL expressions inside {{ }}: URLs,
// headers, bodies, subjects, recipients. Each placeholder is escaped for the
// place it stands in, and a template is checked when the configuration is
// loaded. Rendering is one pass: what a value contains is never evaluated. The
// language is described in docs/templates.md.
package template

import (
	"context"
	"errors"
	"fmt"

	"cel.dev/cel-go/common/types/ref"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/celenv"
)

// Kind says what a template renders, and so how values are escaped and what
// is checked.
type Kind int

// The kinds of templates.
const (
	// Text is plain text: values as they are.
	Text Kind = iota
	// JSON is a JSON document: inside a string literal a value is escaped,
	// elsewhere it is encoded. The result is valid JSON.
	JSON
	// URL is an absolute http or https URL: a value stays inside the path
	// segment, query or fragment it stands in.
	URL
	// Header is the value of a header, or a subject: one line.
	Header
	// HTML is HTML: values are escaped as text.
	HTML
	// Slack is Slack's mrkdwn: values cannot make links or mentions.
	Slack
	// Address is one email address or a comma-separated list: a value cannot
	// add a recipient.
	Address
	// Markdown is the Markdown of Discord and of Adaptive Cards: values cannot
	// format, make links or mention anybody.
	Markdown
)

// String is the name of the kind in error messages.
func (k Kind) String() string {
	switch k {
	case Text:
		return "text"
	case JSON:
		return "JSON"
	case URL:
		return "URL"
	case Header:
		return "header"
	case HTML:
		return "HTML"
	case Slack:
		return "Slack text"
	case Address:
		return "email address"
	case Markdown:
		return "Markdown"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Template is a compiled template. It is safe for concurrent use.
type Template struct {
	source string
	kind   Kind
	name   string // of the kind, for messages
	parts  []part
	format format
}

// format is what distinguishes one [Kind] from another.
type format struct {
	// prepare checks the template at load and tells each placeholder its place.
	prepare func(parts []part) error
	// write appends the value of a placeholder.
	write func(b []byte, p *part, v value) ([]byte, error)
	// finish checks what was rendered; nil when there is nothing to check.
	finish func(rendered []byte, spans []span) error
}

// span is where the value of a placeholder went.
type span struct {
	part       *part
	start, end int
}

func formatOf(kind Kind) (format, bool) {
	switch kind {
	case Text:
		return format{prepare: anywhere, write: writeText}, true
	case JSON:
		return format{prepare: prepareJSON, write: writeJSON, finish: finishJSON}, true
	case URL:
		return format{prepare: prepareURL, write: writeURL, finish: finishURL}, true
	case Header:
		return format{prepare: prepareHeader, write: writeHeader}, true
	case HTML:
		return format{prepare: anywhere, write: writeHTML}, true
	case Slack:
		return format{prepare: anywhere, write: writeSlack}, true
	case Address:
		return format{prepare: prepareAddress, write: writeAddress, finish: finishAddress}, true
	case Markdown:
		return format{prepare: anywhere, write: writeMarkdown}, true
	}
	return format{}, false
}

// Compiler compiles templates in one environment, which is cheaper than
// [Compile] for many. It is safe for concurrent use.
type Compiler struct{ env *celenv.Env }

// NewCompiler builds the environment.
func NewCompiler() (*Compiler, error) {
	env, err := celenv.New()
	if err != nil {
		return nil, err
	}
	return &Compiler{env: env}, nil
}

// Compile checks src as a template of kind: the expressions, and as much of
// the text around them as can be known before there is an event. The error says
// in one line what is wrong and where.
func (c *Compiler) Compile(src string, kind Kind) (*Template, error) {
	f, known := formatOf(kind)
	if !known {
		return nil, fmt.Errorf("unknown kind of template: %v", kind)
	}
	parts, err := split(src, c.env)
	if err != nil {
		return nil, err
	}
	if err := f.prepare(parts); err != nil {
		return nil, err
	}
	return &Template{source: src, kind: kind, name: kind.String(), parts: parts, format: f}, nil
}

// CompileEscaped is [Compiler.Compile] for a language that this package does not
// know: each value, as text, goes through escape, which may refuse it. name is
// the language in error messages. The template is of kind [Text].
func (c *Compiler) CompileEscaped(src, name string, escape func(value string) (string, error)) (*Template, error) {
	parts, err := split(src, c.env)
	if err != nil {
		return nil, err
	}
	write := func(b []byte, _ *part, v value) ([]byte, error) {
		s, err := text(v)
		if err == nil {
			s, err = escape(s)
		}
		return append(b, s...), err
	}
	return &Template{source: src, kind: Text, name: name, parts: parts, format: format{prepare: anywhere, write: write}}, nil
}

// Compile is [Compiler.Compile] in an environment of its own.
func Compile(src string, kind Kind) (*Template, error) {
	c, err := NewCompiler()
	if err != nil {
		return nil, err
	}
	return c.Compile(src, kind)
}

// Static reports whether the template has no placeholders: it renders the same
// for every event.
func (t *Template) Static() bool {
	for i := range t.parts {
		if t.parts[i].program != nil {
			return false
		}
	}
	return true
}

// String is the template as it was written.
func (t *Template) String() string { return t.source }

// Kind is what the template was compiled as.
func (t *Template) Kind() Kind { return t.kind }

// Render fills in the values of e. An event that the template cannot be
// rendered for is an [observer.Permanent] error with [observer.ReasonTemplate];
// the error of a ctx that has ended is returned as it is.
func (t *Template) Render(ctx context.Context, e *observer.Event) (string, error) {
	if t.Static() {
		return t.source, nil
	}
	rendered := make([]byte, 0, len(t.source)+64)
	var spans []span
	for i := range t.parts {
		p := &t.parts[i]
		if p.program == nil {
			rendered = append(rendered, p.text...)
			continue
		}
		start := len(rendered)
		v, err := p.program.Eval(ctx, e)
		if err == nil {
			rendered, err = t.format.write(rendered, p, value{Val: v, event: e})
		}
		if err != nil {
			return "", t.failure(p, err)
		}
		if t.format.finish != nil {
			spans = append(spans, span{part: p, start: start, end: len(rendered)})
		}
	}
	if t.format.finish != nil {
		if err := t.format.finish(rendered, spans); err != nil {
			return "", permanent(fmt.Errorf("render %s: %w", t.name, err))
		}
	}
	return string(rendered), nil
}

func (t *Template) failure(p *part, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return permanent(fmt.Errorf("render %s: {{ %s }} at %s: %w", t.name, p.text, p.at, err))
}

func permanent(err error) error { return observer.Permanent(observer.ReasonTemplate, err) }

// value is the result of a placeholder and the event it came from.
type value struct {
	ref.Val
	event *observer.Event
}
