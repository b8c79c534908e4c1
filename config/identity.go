package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/fraiseql/observer/action/discord"
	"github.com/fraiseql/observer/action/email"
	actionlog "github.com/fraiseql/observer/action/log"
	"github.com/fraiseql/observer/action/push"
	"github.com/fraiseql/observer/action/slack"
	"github.com/fraiseql/observer/action/sms"
	"github.com/fraiseql/observer/action/teams"
	"github.com/fraiseql/observer/action/webhook"
)

// Print is a fingerprint by which an action is found again that stands elsewhere
// now: 16 hexadecimal digits over its type, where it sends and what. These keys
// count:
//
//	webhook  url, method, headers, body_template
//	slack    webhook_url, channel, message_template
//	email    to, cc, bcc, reply_to, from, subject, body_template, html_template
//	log      level, message_template
//	sms      account_sid, from, messaging_service_sid, to, body_template, api_url
//	push     project_id, token, topic, condition, title_template, body_template, data, api_url
//	teams    webhook_url, title_template, message_template, card_template
//	discord  webhook_url, thread_id, username, message_template, embeds_template
//	database url, function_name, params
//	cache    url, key_pattern, action
//	nats     url, subject, body_template, ack
//	search   url, index, id_template, body_template, update
//
// Secrets do not: what comes from the environment counts by the name of its
// variable, and credentials that the file has in plain text are left out. So a
// new secret changes nothing, nor do a timeout, a retry, or how it is queued.
func (a Action) Print() string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q", a.Type) // a hash takes everything
	for _, p := range a.identity() {
		_, _ = fmt.Fprintf(h, " %s=%q", p.key, p.text)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// part is a key that counts, as it was given.
type part struct{ key, text string }

func (a Action) identity() []part {
	switch cfg := a.Config.(type) {
	case *webhook.Config:
		return a.webhookIdentity(cfg)
	case *slack.Config:
		return []part{
			{"webhook_url", a.given("webhook_url", withoutTokens(cfg.WebhookURL.Reveal()))},
			{"channel", a.given("channel", cfg.Channel)},
			{"message_template", a.given("message_template", cfg.MessageTemplate)},
		}
	case *email.Config:
		return a.emailIdentity(cfg)
	case *actionlog.Config:
		return []part{
			{"level", cmp.Or(a.given("level", cfg.Level), "info")},
			{"message_template", a.given("message_template", cfg.MessageTemplate)},
		}
	case *sms.Config:
		return a.smsIdentity(cfg)
	case *push.Config:
		return a.pushIdentity(cfg)
	case *teams.Config:
		return []part{
			{"webhook_url", a.given("webhook_url", withoutTokens(cfg.WebhookURL.Reveal()))},
			{"title_template", a.given("title_template", cfg.TitleTemplate)},
			{"message_template", a.given("message_template", cfg.MessageTemplate)},
			{"card_template", a.given("card_template", cfg.CardTemplate)},
		}
	case *discord.Config:
		return []part{
			{"webhook_url", a.given("webhook_url", withoutTokens(cfg.WebhookURL.Reveal()))},
			{"thread_id", a.given("thread_id", cfg.ThreadID)},
			{"username", a.given("username", cfg.Username)},
			{"message_template", a.given("message_template", cfg.MessageTemplate)},
			{"embeds_template", a.given("embeds_template", cfg.EmbedsTemplate)},
		}
	}
	return a.serverIdentity()
}

func (a Action) smsIdentity(cfg *sms.Config) []part {
	return []part{
		{"account_sid", a.given("account_sid", cfg.AccountSID)},
		{"from", a.given("from", cfg.From)},
		{"messaging_service_sid", a.given("messaging_service_sid", cfg.MessagingServiceSID)},
		{"to", cmp.Or(a.given("to", cfg.To), a.given("to_template", cfg.ToTemplate))},
		{"body_template", a.given("body_template", cfg.BodyTemplate)},
		{"api_url", a.given("api_url", cfg.APIURL)},
	}
}

func (a Action) pushIdentity(cfg *push.Config) []part {
	parts := []part{
		{"project_id", a.given("project_id", cfg.ProjectID)},
		{"token", a.given("token", cfg.Token)},
		{"topic", a.given("topic", cfg.Topic)},
		{"condition", a.given("condition", cfg.Condition)},
		{"title_template", a.given("title_template", cfg.TitleTemplate)},
		{"body_template", a.given("body_template", cfg.BodyTemplate)},
		{"api_url", a.given("api_url", cfg.APIURL)},
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Data)) {
		key := "data." + name
		parts = append(parts, part{key, a.given(key, cfg.Data[name])})
	}
	return parts
}

func (a Action) webhookIdentity(cfg *webhook.Config) []part {
	credentials := a.credentials(cfg)
	to := a.given("url", cfg.URL)
	if slices.Contains(credentials, "url") { // they are in its query
		to, _, _ = strings.Cut(to, "?")
	}
	parts := []part{
		{"url", to},
		{"method", cmp.Or(strings.ToUpper(a.given("method", cfg.Method)), "POST")},
		{"body_template", a.given("body_template", cfg.BodyTemplate)},
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Headers)) {
		key, text := "headers."+name, ""
		if !slices.Contains(credentials, key) {
			text = a.given(key, cfg.Headers[name])
		}
		parts = append(parts, part{key, text})
	}
	return parts
}

// emailIdentity takes the two words that some keys have for one.
func (a Action) emailIdentity(cfg *email.Config) []part {
	addresses := func(key string, list email.Addresses) string { return a.given(key, strings.Join(list, ",")) }
	to := []string{addresses("to", cfg.To), a.given("to_template", cfg.ToTemplate)}
	to = slices.DeleteFunc(to, func(text string) bool { return text == "" })
	return []part{
		{"to", strings.Join(to, ",")},
		{"cc", addresses("cc", cfg.CC)},
		{"bcc", addresses("bcc", cfg.BCC)},
		{"reply_to", a.given("reply_to", cfg.ReplyTo)},
		{"from", a.given("from", cfg.From)},
		{"subject", cmp.Or(a.given("subject", cfg.Subject), a.given("subject_template", cfg.SubjectTemplate))},
		{"body_template", a.given("body_template", cfg.BodyTemplate)},
		{"html_template", a.given("html_template", cfg.HTMLTemplate)},
	}
}

// credentials are the keys of a webhook that have one as plain text in the file.
func (a Action) credentials(cfg *webhook.Config) []string {
	return slices.DeleteFunc(cfg.LiteralCredentials(), func(key string) bool { return whole.MatchString(a.unexpanded[key]) })
}

// given is the text of a key as it was written, before anything of the
// environment was put in; value where the environment has no part in it.
func (a Action) given(key, value string) string {
	if text, ok := a.unexpanded[key]; ok {
		return text
	}
	return value
}

// tokenLength is from how many characters on a part of a path is one that nobody
// is to know: the names of workspaces and channels are shorter.
const tokenLength = 20

// withoutTokens is where a webhook leads, without what makes it secret.
func withoutTokens(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	names := slices.DeleteFunc(strings.Split(u.Path, "/"), func(name string) bool { return len(name) >= tokenLength })
	return u.Host + strings.Join(names, "/")
}
