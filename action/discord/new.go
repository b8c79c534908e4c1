package discord

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// New makes an action that sends through client. An invalid configuration gives
// [observer.FieldError]s, joined.
func New(cfg Config, client *http.Client) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	webhook, webhookErr := outbound.ParseSecretURL("discord", cfg.WebhookURL, cfg.Redactor)
	a := &Action{client: client, mentions: slices.Clone(cfg.AllowedMentions)}
	var errs [5]error
	a.message, errs[0] = compile(templates, cfg.MessageTemplate, template.Markdown)
	a.embeds, errs[1] = compile(templates, cfg.EmbedsTemplate, template.JSON)
	a.username, errs[2] = compile(templates, cfg.Username, template.Header)
	a.thread, errs[3] = compile(templates, cfg.ThreadID, template.Header)
	errs[4] = checkMentions(cfg.AllowedMentions)
	if cfg.MessageTemplate == "" && cfg.EmbedsTemplate == "" {
		errs[0] = errors.New("is required, or embeds_template")
	}
	err = errors.Join(
		outbound.Invalid("webhook_url", webhookErr),
		outbound.Invalid("message_template", errs[0]),
		outbound.Invalid("embeds_template", errs[1]),
		outbound.Invalid("username", errs[2]),
		outbound.Invalid("thread_id", errs[3]),
		outbound.Invalid("allowed_mentions", errs[4]),
	)
	if err != nil {
		return nil, err
	}
	// Without it the answer is empty: neither the id of the message, nor whether
	// it was stored.
	a.webhook = webhook.With("wait", "true")
	return a, nil
}

// compile gives nil for a template that is not there.
func compile(templates *template.Compiler, src string, kind template.Kind) (*template.Template, error) {
	if src == "" {
		return nil, nil
	}
	return templates.Compile(src, kind)
}

func checkMentions(words []string) error {
	for _, word := range words {
		if !slices.Contains([]string{"users", "roles", "everyone"}, word) {
			return fmt.Errorf(`%q is none of "users", "roles" and "everyone"`, word)
		}
	}
	return nil
}
