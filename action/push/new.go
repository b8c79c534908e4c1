package push

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

const firebase = "https://fcm.googleapis.com"

// builder turns a configuration into the parts of an action and collects
// everything that is wrong with it.
type builder struct {
	cfg       Config
	templates *template.Compiler
	errs      []error
}

// New makes an action that sends through client. An invalid configuration gives
// [observer.FieldError]s, joined. It reads the file with the credentials and
// calls nobody.
func New(cfg Config, client *http.Client) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	b := builder{cfg: cfg, templates: templates}
	account := b.account()
	messages, endpoint := b.address(account)
	a := &Action{client: client, messages: messages, endpoint: endpoint, target: b.target(), content: b.content()}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	a.redactor = cfg.Redactor.With(account.secrets...)
	a.tokens = &tokens{fetch: exchange{client: client, account: account, redactor: a.redactor}.fetch}
	return a, nil
}

func (b *builder) fail(field string, err error) {
	if err != nil {
		b.errs = append(b.errs, outbound.Invalid(field, err))
	}
}

func (b *builder) compile(field, src string, kind template.Kind) *template.Template {
	t, err := b.templates.Compile(src, kind)
	b.fail(field, err)
	return t
}

// account is empty where it cannot be read, which is an error then.
func (b *builder) account() *account {
	document, field := b.cfg.Credentials.Reveal(), "credentials"
	switch file := b.cfg.CredentialsFile; {
	case file != "" && document != "":
		b.fail("credentials_file", errors.New("stands beside credentials: write one of the two"))
		return &account{}
	case file == "" && document == "":
		b.fail("credentials", errors.New("is required, or credentials_file"))
		return &account{}
	case file != "":
		field = "credentials_file"
		var err error
		if document, err = readKeyFile(file); err != nil {
			b.fail(field, err)
			return &account{}
		}
	}
	parsed, err := parseAccount(document)
	if err != nil {
		b.fail(field, err)
		return &account{}
	}
	return parsed
}

// address is the resource that messages are posted to, and its name for people.
func (b *builder) address(a *account) (*url.URL, string) {
	base, err := outbound.ParseBase(cmp.Or(b.cfg.APIURL, firebase))
	b.fail("api_url", err)
	project := cmp.Or(b.cfg.ProjectID, a.project)
	switch {
	case strings.Trim(project, "abcdefghijklmnopqrstuvwxyz0123456789-:.") != "":
		b.fail("project_id", errors.New("is not the id of a project"))
	case project == "" && a.key != nil:
		b.fail("project_id", errors.New("is required: the credentials name no project"))
	case err == nil:
		of := base.JoinPath("v1/projects", project)
		return of.JoinPath("messages:send"), outbound.Endpoint(b.cfg.Redactor, "push", outbound.Origin(base), of.Path, false)
	}
	return nil, ""
}

// target is who receives the message.
func (b *builder) target() target {
	given := 0
	var chosen target
	for _, c := range []struct{ field, src string }{
		{"token", b.cfg.Token}, {"topic", b.cfg.Topic}, {"condition", b.cfg.Condition},
	} {
		if c.src == "" {
			continue
		}
		if given++; given > 1 {
			b.fail(c.field, errors.New("stands beside another of token, topic and condition: write one of them"))
			continue
		}
		chosen = target{field: c.field, text: b.compile(c.field, c.src, template.Header)}
		b.fail(c.field, chosen.checkStatic())
	}
	if given == 0 {
		b.fail("token", errors.New("is required, or topic, or condition"))
	}
	return chosen
}

// content is what the message says.
func (b *builder) content() content {
	c := content{
		title: b.compile("title_template", b.cfg.TitleTemplate, template.Text),
		body:  b.compile("body_template", b.cfg.BodyTemplate, template.Text),
		data:  map[string]*template.Template{},
	}
	for _, key := range slices.Sorted(maps.Keys(b.cfg.Data)) {
		if reserved(key) {
			b.fail("data."+key, errors.New("is a word that Firebase keeps for itself"))
		}
		c.data[key] = b.compile("data."+key, b.cfg.Data[key], template.Text)
	}
	if b.cfg.TitleTemplate == "" && b.cfg.BodyTemplate == "" && len(b.cfg.Data) == 0 {
		b.fail("body_template", errors.New("is required, or title_template, or data"))
	}
	return c
}

func reserved(key string) bool {
	return key == "" || key == "from" || key == "message_type" || strings.HasPrefix(key, "google") || strings.HasPrefix(key, "gcm")
}
