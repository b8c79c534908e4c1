package push

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// topicName is what Firebase takes as the name of a topic.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9\-_.~%]+$`)

// target is who receives a message: a token, a topic or a condition.
type target struct {
	field string // of the configuration, and of the message
	text  *template.Template
}

// checkStatic finds what is wrong before there is an event.
func (t target) checkStatic() error {
	switch {
	case t.text == nil: // it did not compile, which is an error of its own
		return nil
	case t.text.Static():
		return t.check(t.text.String())
	case t.field == "condition":
		return errors.New("must not contain {{ }}: a value could widen it; for a topic by event, write topic")
	}
	return nil
}

// check judges a rendered target.
func (t target) check(text string) error {
	switch {
	case t.field == "topic" && !topicName.MatchString(text):
		return errors.New("is not the name of a topic: letters, digits and - _ . ~ % without /topics/ before them")
	case t.field == "token" && strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return errors.New("is not a registration token")
	}
	return nil
}

// render is the target for an event.
func (t target) render(ctx context.Context, e *observer.Event) (string, error) {
	text, err := outbound.Text(ctx, t.text, e)
	if err == nil {
		err = observer.Permanent(observer.ReasonTemplate, t.check(text))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", t.field, err)
	}
	return text, nil
}
