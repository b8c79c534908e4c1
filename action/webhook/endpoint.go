package webhook

import (
	"context"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

const kind = "webhook"

// endpoint names the receiver of a delivery: the server and the path up to the
// first placeholder in it.
type endpoint struct {
	redactor observer.Redactor
	// name is the same for every event, unless the server comes from a
	// placeholder.
	name string
	// from is the beginning of the URL that decides, where name is empty.
	from *template.Template
	// given: the path comes from the event or the environment, and may be a
	// secret of whoever gave it. serverOnly: where in the path the placeholders are is not known.
	given, serverOnly bool
}

func (b *builder) endpoint(redactor observer.Redactor, whole *template.Template) endpoint {
	src := b.cfg.URL
	literal, _, templated := strings.Cut(src, "{{")
	server, path := cutURL(literal)
	// The configuration may have all of the URL, or any part, from the environment.
	secret := func(beginning string) bool { return !strings.HasPrefix(redactor.Redact(src), beginning) }
	if !templated || len(server) < len(literal) {
		return endpoint{name: outbound.Endpoint(redactor, kind, server, path, secret(server+path))}
	}
	from := beginning(src)
	e := endpoint{redactor: redactor, given: literal == "" || secret(from)}
	var err error
	if e.from, err = b.templates.Compile(from, template.URL); err != nil {
		// An expression with braces in it, which beginning does not read.
		e.from, e.serverOnly = whole, true
	}
	return e
}

// cutURL gives scheme and host of the beginning of a URL, and the path as far as
// it goes.
func cutURL(literal string) (server, path string) {
	from := strings.Index(literal, "://") + len("://")
	end := strings.IndexAny(literal[min(from, len(literal)):], "/?#")
	if end < 0 {
		return literal, ""
	}
	path, _, _ = strings.Cut(literal[from+end:], "?")
	path, _, _ = strings.Cut(path, "#")
	return literal[:from+end], path
}

// beginning is a URL with a placeholder in its server, or instead of it, up to
// the first placeholder after the server.
func beginning(src string) string {
	base := strings.HasPrefix(src, "{{")
	for at := 0; ; {
		closing := strings.Index(src[at:], "}}")
		if closing < 0 {
			return src
		}
		at += closing + len("}}")
		literal, _, more := strings.Cut(src[at:], "{{")
		if end := strings.IndexAny(literal, "?#"); end >= 0 {
			return src[:at+end]
		}
		if !more || base || strings.Contains(literal, "/") {
			return src[:at+len(literal)]
		}
	}
}

// of is the name for an event, "" when it cannot be told.
func (e *endpoint) of(ctx context.Context, event *observer.Event) string {
	if e.name != "" || e.from == nil || event == nil {
		return e.name
	}
	text, err := e.from.Render(ctx, event)
	if err != nil {
		return ""
	}
	to, err := parseURL(text)
	if err != nil {
		return ""
	}
	path := to.EscapedPath()
	if e.serverOnly {
		path = ""
	}
	return outbound.Endpoint(e.redactor, kind, outbound.Origin(to), path, e.given)
}
