package config_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/slack"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/config"
)

// printOf is the fingerprint of the last action of a configuration.
func printOf(t *testing.T, action string, vars map[string]string) string {
	t.Helper()
	actions := parse(t, minimal+action+"\n[smtp]\nhost = \"mail.example.com\"\nfrom = \"a@example.com\"\n[[job_queue.queues]]\nname = \"q\"\n", vars).Observers[0].Actions
	return actions[len(actions)-1].Print()
}

const (
	hookAction  = "type = \"webhook\"\nurl = \"https://example.com/a\"\nheaders.X-Shop = \"one\"\n"
	slackAction = "type = \"slack\"\nwebhook_url = \"https://hooks.slack.com/services/T024BE7LD/B024BE7LH/abcdefghijklmnopqrstuvwx\"\nmessage_template = \"hello\"\n"
	mailAction  = "type = \"email\"\nto = \"a@example.com\"\nsubject = \"x\"\nbody_template = \"x\"\n"
	logAction   = "type = \"log\"\nmessage_template = \"hello\"\n"
)

// with replaces a piece of an action that is there.
func with(t *testing.T, action, piece, other string) string {
	t.Helper()
	if !strings.Contains(action, piece) {
		t.Fatalf("no %q in %q", piece, action)
	}
	return strings.Replace(action, piece, other, 1)
}

// TestPrintStaysTheSame: what says nothing of where an action sends or what.
func TestPrintStaysTheSame(t *testing.T) {
	t.Parallel()
	const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
	for name, c := range map[string]struct{ action, other string }{
		"timeout":                {hookAction, hookAction + "timeout = \"7s\"\n"},
		"delivery":               {hookAction, hookAction + "mode = \"queued\"\nqueue = \"q\"\npriority = 1\ndelay = \"1m\"\non_unknown = \"dead_letter\"\n"},
		"retry":                  {hookAction, hookAction + "[observers.retry]\nmax_attempts = 9\n"},
		"signing secret":         {hookAction, hookAction + "signing_secret = \"" + secret + "\"\n"},
		"signing secrets":        {hookAction, hookAction + "signing_secrets = [\"" + secret + "\"]\n"},
		"size":                   {hookAction, hookAction + "max_body_bytes = 10\n"},
		"the place":              {hookAction, logAction + "[[observers.actions]]\n" + hookAction},
		"default method":         {hookAction, hookAction + "method = \"POST\"\n"},
		"default level":          {logAction, logAction + "level = \"info\"\n"},
		"header in plain text":   {hookAction + "headers.Authorization = \"Bearer first-token\"\n", hookAction + "headers.Authorization = \"Bearer second-token\"\n"},
		"query in plain text":    {with(t, hookAction, "/a", "/a?api_key=first-key"), with(t, hookAction, "/a", "/a?api_key=second-key")},
		"slack in plain text":    {slackAction, with(t, slackAction, "abcdefghijklmnopqrstuvwx", "xwvutsrqponmlkjihgfedcba")},
		"the words of to":        {mailAction, with(t, mailAction, "to =", "to_template =")},
		"the words of subject":   {mailAction, with(t, mailAction, "subject =", "subject_template =")},
		"a list of one":          {mailAction, with(t, mailAction, "\"a@example.com\"", "[\"a@example.com\"]")},
		"two ways to a variable": {with(t, hookAction, "url = \"https://example.com/a\"", "url_env = \"URL\""), with(t, hookAction, "https://example.com/a", "${URL}")},
	} {
		vars := map[string]string{"URL": "https://example.com/secret"}
		if was, is := printOf(t, c.action, vars), printOf(t, c.other, vars); was != is {
			t.Errorf("%s: %s became %s", name, was, is)
		}
	}
}

// TestPrintDiffers: where an action sends, and what.
func TestPrintDiffers(t *testing.T) {
	t.Parallel()
	const listed = "to = [\"a@example.com\", \"${A}\"]"
	for name, c := range map[string]struct{ action, other string }{
		"type":                {"type = \"log\"\n", "type = \"webhook\"\nurl = \"https://example.com\"\n"},
		"url":                 {hookAction, with(t, hookAction, "/a", "/b")},
		"harmless query":      {with(t, hookAction, "/a", "/a?page=1"), with(t, hookAction, "/a", "/a?page=2")},
		"beside a credential": {with(t, hookAction, "/a", "/a?api_key=the-key"), with(t, hookAction, "/a", "/b?api_key=the-key")},
		"method":              {hookAction, hookAction + "method = \"PUT\"\n"},
		"body":                {hookAction, hookAction + "body_template = \"{}\"\n"},
		"header":              {hookAction, with(t, hookAction, "one", "two")},
		"another header":      {hookAction, with(t, hookAction, "X-Shop", "X-Store")},
		"secret header":       {hookAction, hookAction + "headers.X-Token = \"some-token\"\n"},
		"variable in a url":   {with(t, hookAction, "/a", "/${A}"), with(t, hookAction, "/a", "/${B}")},
		"variable":            {with(t, hookAction, "url = \"https://example.com/a\"", "url_env = \"A\""), with(t, hookAction, "url = \"https://example.com/a\"", "url_env = \"B\"")},
		"variable of header":  {with(t, hookAction, "one", "${A}"), with(t, hookAction, "one", "${B}")},
		"slack channel":       {slackAction, slackAction + "channel = \"#shop\"\n"},
		"slack message":       {slackAction, with(t, slackAction, "hello", "bye")},
		"slack webhook":       {slackAction, with(t, slackAction, "B024BE7LH", "B024BE7LI")},
		"slack host":          {slackAction, with(t, slackAction, "hooks.slack.com", "chat.example.com")},
		"to":                  {mailAction, with(t, mailAction, "a@", "b@")},
		"first of a list":     {with(t, mailAction, "to = \"a@example.com\"", listed), with(t, mailAction, "to = \"a@example.com\"", "to = [\"b@example.com\", \"${A}\"]")},
		"cc":                  {mailAction, mailAction + "cc = \"b@example.com\"\n"},
		"to or cc":            {mailAction + "cc = \"b@example.com\"\n", mailAction + "bcc = \"b@example.com\"\n"},
		"reply_to":            {mailAction, mailAction + "reply_to = \"b@example.com\"\n"},
		"from":                {mailAction, mailAction + "from = \"b@example.com\"\n"},
		"subject":             {mailAction, with(t, mailAction, "subject = \"x\"", "subject = \"y\"")},
		"text":                {mailAction, with(t, mailAction, "body_template = \"x\"", "body_template = \"y\"")},
		"html":                {mailAction, mailAction + "html_template = \"<p>x</p>\"\n"},
		"message":             {logAction, with(t, logAction, "hello", "bye")},
		"level":               {logAction, logAction + "level = \"warn\"\n"},
	} {
		vars := map[string]string{"A": "https://example.com/secret", "B": "https://example.com/secret"}
		if strings.Contains(name, "list") {
			vars["A"] = "c@example.com"
		}
		was, is := printOf(t, c.action, vars), printOf(t, c.other, vars)
		if was == is {
			t.Errorf("%s: both are %s", name, was)
		}
		if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(was) {
			t.Errorf("%s: %q is no fingerprint", name, was)
		}
	}
}

// TestPrintAcrossSecrets: what a variable holds does not count, whichever way it
// comes into the action.
func TestPrintAcrossSecrets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ action, variable, was, is string }{
		"in a url":         {with(t, hookAction, "/a", "/${X}/{{ data.id }}"), "X", "first", "the-second"},
		"a whole url":      {with(t, hookAction, "url = \"https://example.com/a\"", "url_env = \"X\""), "X", "https://a.example.com", "https://b.example.com/x"},
		"a single letter":  {with(t, hookAction, "/a", "/${X}"), "X", "e", "m"},
		"a header":         {with(t, hookAction, "one", "Bearer ${X}"), "X", "first", "the-second"},
		"a secret header":  {hookAction + "headers.Authorization_env = \"X\"\n", "X", "Bearer first-token", "the-second-token"},
		"a secret query":   {with(t, hookAction, "url = \"https://example.com/a\"", "url_env = \"X\""), "X", "https://example.com/?api_key=first-key", "https://example.com/?api_key=other-key"},
		"a body":           {hookAction + "body_template = '{\"key\": \"${X}\"}'\n", "X", "first", "the-second"},
		"slack":            {with(t, slackAction, "webhook_url = \"https://hooks.slack.com/services/T024BE7LD/B024BE7LH/abcdefghijklmnopqrstuvwx\"", "webhook_url_env = \"X\""), "X", "https://hooks.slack.com/a", "https://example.com/b"},
		"a recipient":      {with(t, mailAction, "to = \"a@example.com\"", "to = [\"a@example.com\", \"${X}\"]"), "X", "b@example.com", "c@example.com"},
		"an override":      {hookAction, "FRAISEQL_OBSERVERS_0_ACTIONS_0_URL", "https://a.example.com", "https://b.example.com/x"},
		"overriding lists": {mailAction, "FRAISEQL_OBSERVERS_0_ACTIONS_0_TO", "b@example.com", "c@example.com,d@example.com"},
		"overriding slack": {slackAction, "FRAISEQL_OBSERVERS_0_ACTIONS_0_WEBHOOK_URL", "https://hooks.slack.com/a", "https://example.com/b"},
	} {
		was := printOf(t, c.action, map[string]string{c.variable: c.was})
		is := printOf(t, c.action, map[string]string{c.variable: c.is})
		if was != is {
			t.Errorf("%s: %s became %s", name, was, is)
		}
	}
}

// TestPrintOfAnOverrideMovesWithItsObserver: the name of an overriding variable
// has the places of the observer and the action; only the latter tells actions
// of one observer apart.
func TestPrintOfAnOverrideMovesWithItsObserver(t *testing.T) {
	t.Parallel()
	const url = "https://example.com/env"
	other := "[[observers]]\nname = \"p\"\nentity = \"Order\"\n[[observers.actions]]\n"
	first := parse(t, minimal+hookAction, map[string]string{"FRAISEQL_OBSERVERS_0_ACTIONS_0_URL": url})
	second := parse(t, minimal+logAction+other+hookAction, map[string]string{"FRAISEQL_OBSERVERS_1_ACTIONS_0_URL": url})
	equal(t, "moved observer", second.Observers[1].Actions[0].Print(), first.Observers[0].Actions[0].Print())
	both := parse(t, minimal+hookAction+"[[observers.actions]]\n"+hookAction,
		map[string]string{"FRAISEQL_OBSERVERS_0_ACTIONS_0_URL": url, "FRAISEQL_OBSERVERS_0_ACTIONS_1_URL": url})
	if a := both.Observers[0].Actions; a[0].Print() == a[1].Print() {
		t.Error("two overridden actions have one fingerprint")
	}
}

// TestPrintIsStored: deliveries keep it, so it must not change from one version to
// the next. An action made without a file has the same.
func TestPrintIsStored(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		hookAction: "b44b1b23a9009b98", slackAction: "54d23a6e99646f23", mailAction: "ef4bfac8d4b5b33c", logAction: "c1f611a3ea4e842e",
	} {
		if got := printOf(t, text, nil); got != want {
			t.Errorf("%.20s: %s, want %s", text, got, want)
		}
	}
	made := config.Action{Type: "webhook", Config: &webhook.Config{URL: "https://example.com/a", Headers: map[string]string{"X-Shop": "one"}}}
	equal(t, "made", made.Print(), printOf(t, hookAction, nil))
	broken := config.Action{Type: "slack", Config: &slack.Config{WebhookURL: observer.NewSecret("https://%zz")}}
	if unknown := (config.Action{Type: "sms"}); broken.Print() == unknown.Print() || len(unknown.Print()) != 16 {
		t.Errorf("%s and %s", broken.Print(), unknown.Print())
	}
}
