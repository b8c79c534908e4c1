package template

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
)

// The places of a placeholder in an address list.
const (
	inAddress    place = iota
	inName             // the display name before <address>
	inQuotedName       // the same, inside quotes
)

// prepareAddress tells display names from addresses and checks the list with a
// stand-in for each placeholder.
func prepareAddress(parts []part) error {
	var skeleton strings.Builder
	quoted := false
	for i := range parts {
		p := &parts[i]
		if p.program == nil {
			if n := strings.IndexFunc(p.text, isControl); n >= 0 {
				return errorAt(p.at, "the text contains a control character (%q)", p.text[n])
			}
			quoted, _ = scanJSON(p.text, quoted, false)
			skeleton.WriteString(p.text)
			continue
		}
		p.place = addressPlace(parts[i+1:], quoted)
		skeleton.WriteString(addressStandIn(parts, i))
	}
	if _, err := mail.ParseAddressList(skeleton.String()); err != nil {
		return fmt.Errorf("this is not an email address or a comma-separated list: %s", strings.TrimPrefix(err.Error(), "mail: "))
	}
	return nil
}

// addressPlace looks at what follows: a < before the next comma makes the
// placeholder part of a name.
func addressPlace(rest []part, quoted bool) place {
	if quoted {
		return inQuotedName
	}
	for i := range rest {
		if rest[i].program != nil {
			continue
		}
		n := strings.IndexAny(rest[i].text, ",<>")
		if n >= 0 && rest[i].text[n] == '<' {
			return inName
		}
		if n >= 0 {
			return inAddress
		}
	}
	return inAddress
}

func addressStandIn(parts []part, i int) string {
	if parts[i].place != inAddress {
		return "x"
	}
	before := i > 0 && strings.HasSuffix(parts[i-1].text, "@") && parts[i-1].program == nil
	after := i+1 < len(parts) && parts[i+1].program == nil && !strings.ContainsAny(parts[i+1].text[:1], ",>; ")
	joined := i > 0 && parts[i-1].program == nil && !strings.ContainsAny(parts[i-1].text[len(parts[i-1].text)-1:], ",<; ")
	if before || after || joined {
		return "x"
	}
	return "x@example.com"
}

func writeAddress(b []byte, p *part, v value) ([]byte, error) {
	s, err := text(v)
	if err != nil {
		return b, err
	}
	if n := strings.IndexFunc(s, isControl); n >= 0 {
		return b, fmt.Errorf("the value contains a control character (%q): an address cannot add a line", s[n])
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
	switch p.place {
	case inQuotedName:
		return append(b, quoted...), nil
	case inName:
		return append(append(append(b, '"'), quoted...), '"'), nil
	default: // written as it is
	}
	s = strings.TrimSpace(s)
	if s == "" {
		return b, errors.New("the value is empty: there is no address to send to")
	}
	if strings.ContainsAny(s, " \t,;:<>()[]\"\\") {
		return b, fmt.Errorf("%q is not one plain email address", s)
	}
	return append(b, s...), nil
}

func finishAddress(rendered []byte, _ []span) error {
	if _, err := mail.ParseAddressList(string(rendered)); err != nil {
		return fmt.Errorf("%q is not an email address: %s", rendered, strings.TrimPrefix(err.Error(), "mail: "))
	}
	return nil
}
