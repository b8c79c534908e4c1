package email

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/template"
)

// addressTemplates are the compiled address fields.
type addressTemplates struct {
	from        field
	to, cc, bcc []field
	replyTo     []field
}

// field is a compiled address field and the key it was configured under.
type field struct {
	key      string
	template *template.Template
}

// addresses are where a message goes and whom it is from.
type addresses struct {
	from                 *mail.Address
	to, cc, bcc, replyTo []*mail.Address
}

func (t addressTemplates) render(ctx context.Context, e *observer.Event) (out addresses, err error) {
	from, err := renderFields(ctx, e, []field{t.from})
	if err != nil {
		return out, err
	}
	if len(from) != 1 {
		return out, observer.Permanent(observer.ReasonTemplate,
			fmt.Errorf("%s: %d addresses, exactly one is needed", t.from.key, len(from)))
	}
	out.from = from[0]
	lists := []struct {
		into   *[]*mail.Address
		fields []field
	}{{&out.to, t.to}, {&out.cc, t.cc}, {&out.bcc, t.bcc}, {&out.replyTo, t.replyTo}}
	for _, l := range lists {
		if *l.into, err = renderFields(ctx, e, l.fields); err != nil {
			return out, err
		}
	}
	return out, nil
}

func renderFields(ctx context.Context, e *observer.Event, fields []field) ([]*mail.Address, error) {
	var list []*mail.Address
	for _, f := range fields {
		text, err := f.template.Render(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.key, err)
		}
		parsed, err := parseAddresses(text)
		if err != nil {
			return nil, observer.Permanent(observer.ReasonTemplate, fmt.Errorf("%s: %w", f.key, err))
		}
		list = append(list, parsed...)
	}
	return list, nil
}

func parseAddresses(text string) ([]*mail.Address, error) {
	list, err := mail.ParseAddressList(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not an email address: %s", text, strings.TrimPrefix(err.Error(), "mail: "))
	}
	for _, a := range list {
		if err := plain(a.Address); err != nil {
			return nil, fmt.Errorf("%q is not an email address: %w", text, err)
		}
	}
	return list, nil
}

// plain refuses what net/mail reads but SMTP would read differently: quoted
// local parts may hold a bracket or a space, which would end the address in a
// command and begin a parameter.
func plain(address string) error {
	isSpecial := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`<>()[]\,;:"`, r) }
	if strings.IndexFunc(address, isSpecial) >= 0 || strings.Count(address, "@") != 1 {
		return errors.New("quoted local parts and address literals are not supported")
	}
	return nil
}
