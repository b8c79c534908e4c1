package template

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// The places of a placeholder in a URL.
const (
	inPath place = iota
	inHost
	inQuery
	inFragment
	inBase // the whole beginning of the URL comes from the value
)

var (
	scheme   = regexp.MustCompile(`^(?i:https?)://`)
	dnsLabel = regexp.MustCompile(`^[A-Za-z0-9-]{1,63}$`)
)

// prepareURL finds the place of every placeholder and checks the URL with a
// stand-in for each.
func prepareURL(parts []part) error {
	if len(parts) == 0 {
		return errors.New("the URL is empty")
	}
	var skeleton string
	var err error
	if parts[0].program != nil {
		skeleton, err = prepareBase(parts)
	} else {
		skeleton, err = prepareAbsolute(parts)
	}
	if err != nil {
		return err
	}
	if _, err := parseURL(skeleton); err != nil {
		return errorAt(parts[0].at, "%w", err)
	}
	return nil
}

// prepareBase handles a URL whose beginning is a value, such as the callback
// of a customer.
func prepareBase(parts []part) (string, error) {
	parts[0].place = inBase
	if len(parts) == 1 {
		return "https://example.com", nil
	}
	if parts[1].program != nil || !strings.ContainsAny(parts[1].text[:1], "/?#") {
		return "", errorAt(parts[1].at, "a URL that begins with a placeholder goes on with /, ? or #")
	}
	return "https://example.com" + placeFrom(parts[1:], inPath), nil
}

func prepareAbsolute(parts []part) (string, error) {
	prefix := scheme.FindString(parts[0].text)
	if prefix == "" {
		return "", errorAt(parts[0].at, "a URL begins with http:// or https:// (or with a placeholder that gives the whole beginning)")
	}
	host, rest := cutAuthority(parts, len(prefix))
	if err := checkAuthority(host); err != nil {
		return "", err
	}
	var skeleton strings.Builder
	skeleton.WriteString(prefix)
	for _, p := range host {
		if p.program == nil {
			skeleton.WriteString(p.text)
			continue
		}
		p.place = inHost
		skeleton.WriteString("x")
	}
	return skeleton.String() + rest, nil
}

// cutAuthority gives the pieces of the authority, and places what follows.
func cutAuthority(parts []part, from int) (host []*part, rest string) {
	for i := range parts {
		p := &parts[i]
		if p.program != nil {
			host = append(host, p)
			continue
		}
		literal := p.text[from:]
		end := strings.IndexAny(literal, "/?#")
		if end < 0 {
			host = append(host, &part{text: literal, at: p.at})
			from = 0
			continue
		}
		host = append(host, &part{text: literal[:end], at: p.at})
		after := placeLiteral(literal[end:], inPath)
		return host, literal[end:] + placeFrom(parts[i+1:], after)
	}
	return host, ""
}

// placeFrom assigns places to the placeholders of parts, which begin in at.
func placeFrom(parts []part, at place) string {
	var skeleton strings.Builder
	for i := range parts {
		p := &parts[i]
		if p.program == nil {
			at = placeLiteral(p.text, at)
			skeleton.WriteString(p.text)
			continue
		}
		p.place = at
		skeleton.WriteString("x")
	}
	return skeleton.String()
}

func placeLiteral(s string, at place) place {
	for _, c := range s {
		switch {
		case c == '#':
			return inFragment
		case c == '?' && at == inPath:
			at = inQuery
		}
	}
	return at
}

// checkAuthority refuses placeholders where they could choose the credentials
// or the port, or turn one into the other.
func checkAuthority(host []*part) error {
	var before strings.Builder
	for i, p := range host {
		if p.program == nil {
			before.WriteString(p.text)
			continue
		}
		for _, later := range host[i+1:] {
			if later.program == nil && strings.Contains(later.text, "@") {
				return errorAt(p.at, "a placeholder cannot stand in the credentials of a URL")
			}
		}
		inHost := before.String()[strings.LastIndexByte(before.String(), '@')+1:]
		if strings.ContainsAny(inHost, ":[") {
			return errorAt(p.at, "a placeholder cannot stand in the port or the IP address of a URL")
		}
	}
	return nil
}

func writeURL(b []byte, p *part, v value) ([]byte, error) {
	s, err := text(v)
	if err != nil {
		return b, err
	}
	switch p.place {
	case inHost:
		if !dnsLabel.MatchString(s) {
			return b, fmt.Errorf("%q cannot be part of a host name (letters, digits and - only)", s)
		}
		return append(b, s...), nil
	case inQuery:
		return append(b, url.QueryEscape(s)...), nil
	case inFragment:
		return append(b, strings.ReplaceAll(url.QueryEscape(s), "+", "%20")...), nil
	case inBase:
		return appendBase(b, s)
	default: // escaped below
	}
	return append(b, url.PathEscape(s)...), nil
}

// appendBase takes over a whole URL from a value.
func appendBase(b []byte, s string) ([]byte, error) {
	u, err := parseURL(s)
	if err != nil {
		return b, fmt.Errorf("the value cannot be called: %w", err)
	}
	if u.User != nil {
		return b, errors.New("the value is a URL with credentials")
	}
	return append(b, s...), nil
}

func finishURL(rendered []byte, spans []span) error {
	for _, s := range spans {
		if err := s.check(rendered); err != nil {
			return fmt.Errorf("{{ %s }} at %s: %w", s.part.text, s.part.at, err)
		}
	}
	_, err := parseURL(string(rendered))
	return err
}

// check looks at what a value has become together with its surroundings.
func (s span) check(rendered []byte) error {
	switch s.part.place {
	case inPath:
		start := strings.LastIndexByte(string(rendered[:s.start]), '/') + 1
		end := s.end
		if n := strings.IndexAny(string(rendered[s.end:]), "/?#"); n >= 0 {
			end += n
		} else {
			end = len(rendered)
		}
		switch segment, _ := url.PathUnescape(string(rendered[start:end])); segment {
		case "":
			return errors.New("the value leaves a segment of the path empty")
		case ".", "..":
			return fmt.Errorf("the value makes a segment of the path %q, which would change the path", segment)
		}
	case inBase:
		if s.end < len(rendered) && strings.ContainsAny(string(rendered[s.start:s.end]), "?#") {
			return errors.New("the value has a query or a fragment, and the template goes on after it")
		}
	default: // its value alone decides
	}
	return nil
}

// parseURL accepts what an action may call: an absolute http or https URL with
// a host. Its errors do not repeat the URL, which may contain a secret.
func parseURL(s string) (*url.URL, error) {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return nil, errors.New("not a URL: it contains a space, a backslash or a control character")
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("not a URL: %w", errors.Unwrap(err))
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, errors.New("not an absolute http or https URL")
	}
	return u, nil
}
