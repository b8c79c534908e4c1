package config_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/push"
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
	textAction  = "type = \"sms\"\naccount_sid = \"AC1\"\nauth_token = \"first-token\"\nfrom = \"+1\"\nto = \"+2\"\nbody_template = \"hello\"\n"
	teamsAction = "type = \"teams\"\nwebhook_url = \"https://a.example.com/workflows/0123456789abcdef0123456789abcdef/invoke?sig=abc\"\nmessage_template = \"hello\"\n"
	cordAction  = "type = \"discord\"\nwebhook_url = \"https://discord.com/api/webhooks/1/0123456789abcdef0123456789abcdef\"\nmessage_template = \"hello\"\n"
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
		"sms in plain text":      {textAction, with(t, textAction, "first-token", "second-token")},
		"an API key for sms":     {textAction, with(t, textAction, "auth_token = \"first-token\"", "api_key = \"SK1\"\napi_key_secret = \"secret\"")},
		"the words of sms":       {textAction, with(t, textAction, "to =", "to_template =")},
		"teams in plain text":    {teamsAction, with(t, teamsAction, "sig=abc", "sig=cba")},
		"discord in plain text":  {cordAction, with(t, cordAction, "0123456789abcdef0123", "3210fedcba9876543210")},
		"mentions":               {cordAction, cordAction + "allowed_mentions = [\"users\"]\n"},
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
		"sms account":         {textAction, with(t, textAction, "AC1", "AC2")},
		"sms sender":          {textAction, with(t, textAction, "from = \"+1\"", "from = \"+3\"")},
		"sms service":         {textAction, with(t, textAction, "from = \"+1\"", "messaging_service_sid = \"+1\"")},
		"sms recipient":       {textAction, with(t, textAction, "+2", "+3")},
		"sms text":            {textAction, with(t, textAction, "hello", "bye")},
		"sms provider":        {textAction, textAction + "api_url = \"https://sms.example.com\"\n"},
		"teams webhook":       {teamsAction, with(t, teamsAction, "a.example", "b.example")},
		"teams title":         {teamsAction, teamsAction + "title_template = \"x\"\n"},
		"teams message":       {teamsAction, with(t, teamsAction, "hello", "bye")},
		"teams card":          {with(t, teamsAction, "message_template = \"hello\"", "card_template = \"{}\""), with(t, teamsAction, "message_template = \"hello\"", "card_template = \"[]\"")},
		"discord webhook":     {cordAction, with(t, cordAction, "webhooks/1", "webhooks/2")},
		"discord message":     {cordAction, with(t, cordAction, "hello", "bye")},
		"discord embeds":      {cordAction, cordAction + "embeds_template = \"{}\"\n"},
		"discord thread":      {cordAction, cordAction + "thread_id = \"1\"\n"},
		"discord name":        {cordAction, cordAction + "username = \"x\"\n"},
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

// TestPrintOfPush: its credentials are checked when a file is read, so its actions
// are made without one.
func TestPrintOfPush(t *testing.T) {
	t.Parallel()
	printed := func(change func(*push.Config)) string {
		cfg := push.Config{Topic: "a", BodyTemplate: "a", Data: map[string]string{"k": "a"}}
		change(&cfg)
		return config.Action{Type: "push", Config: &cfg}.Print()
	}
	was := printed(func(*push.Config) {})
	equal(t, "credentials", printed(func(c *push.Config) {
		c.Credentials, c.CredentialsFile = observer.NewSecret("x"), "/x"
	}), was)
	for name, change := range map[string]func(*push.Config){
		"project":   func(c *push.Config) { c.ProjectID = "b" },
		"token":     func(c *push.Config) { c.Topic, c.Token = "", "a" },
		"topic":     func(c *push.Config) { c.Topic = "b" },
		"condition": func(c *push.Config) { c.Topic, c.Condition = "", "a" },
		"title":     func(c *push.Config) { c.TitleTemplate = "a" },
		"body":      func(c *push.Config) { c.BodyTemplate = "b" },
		"data":      func(c *push.Config) { c.Data["k"] = "b" },
		"data key":  func(c *push.Config) { c.Data["l"] = "a" },
		"provider":  func(c *push.Config) { c.APIURL = "b" },
	} {
		if is := printed(change); is == was {
			t.Errorf("%s: both are %s", name, was)
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
		"sms":              {with(t, textAction, "auth_token = \"first-token\"", "auth_token_env = \"X\""), "X", "first", "the-second"},
		"discord":          {with(t, cordAction, "webhook_url = \"https://discord.com/api/webhooks/1/0123456789abcdef0123456789abcdef\"", "webhook_url_env = \"X\""), "X", "https://discord.com/a", "https://example.com/b"},
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
		textAction: "138f7a0ababda928", teamsAction: "3623439eabf54a89", cordAction: "d4aef0c359e1595b",
	} {
		if got := printOf(t, text, nil); got != want {
			t.Errorf("%.20s: %s, want %s", text, got, want)
		}
	}
	made := config.Action{Type: "webhook", Config: &webhook.Config{URL: "https://example.com/a", Headers: map[string]string{"X-Shop": "one"}}}
	equal(t, "made", made.Print(), printOf(t, hookAction, nil))
	broken := config.Action{Type: "slack", Config: &slack.Config{WebhookURL: observer.NewSecret("https://%zz")}}
	if unknown := (config.Action{Type: "search"}); broken.Print() == unknown.Print() || len(unknown.Print()) != 16 {
		t.Errorf("%s and %s", broken.Print(), unknown.Print())
	}
}

// TestPrintOfServers: what leads to a server and what is done there counts, its
// user and password do not.
func TestPrintOfServers(t *testing.T) {
	t.Parallel()
	for kind, c := range map[string]struct{ keys, url, other, change string }{
		"database": {`function_name = "f"`, "postgres://u:%s@db.example.com/shop", "postgres://u:p@db.example.com/other", `function_name = "g"`},
		"cache":    {`key_pattern = "k"`, "redis://u:%s@redis.example.com/1", "redis://u:p@redis.example.com/2", `key_pattern = "l"`},
		"nats":     {`subject = "s"`, "nats://u:%s@a.example.com,nats://b.example.com", "nats://u:p@a.example.com", `subject = "t"`},
	} {
		prints := func(url, keys string) string {
			return printOf(t, "type = \""+kind+"\"\nurl = \""+url+"\"\n"+keys+"\n", nil)
		}
		one := prints(strings.Replace(c.url, "%s", "p", 1), c.keys)
		if again := prints(strings.Replace(c.url, "%s", "q", 1), c.keys); again != one {
			t.Errorf("%s: another password makes another fingerprint", kind)
		}
		for _, other := range []string{prints(c.other, c.keys), prints(strings.Replace(c.url, "%s", "p", 1), c.change)} {
			if other == one {
				t.Errorf("%s: one fingerprint for two actions", kind)
			}
		}
	}
}
