package search_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/search"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newAction(t *testing.T, cfg search.Config) *search.Action {
	t.Helper()
	a, err := search.New(cfg, actiontest.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestConformance(t *testing.T) {
	t.Parallel()
	actiontest.Run(t, func(t *testing.T) actiontest.Fixture {
		t.Helper()
		r := actiontest.NewReceiver(t)
		return actiontest.Fixture{
			New: func(t *testing.T, message string) observer.Action {
				t.Helper()
				return newAction(t, search.Config{
					URL: r.URL + "/" + actiontest.Secret, Index: "orders", BodyTemplate: `{"text": "` + message + `"}`,
					Redactor: observer.NewRedactor(observer.NewSecret(actiontest.Secret)),
				})
			},
			Received: func() []string {
				var texts []string
				for _, got := range r.Requests() {
					texts = append(texts, got.Method+" "+got.URI+" "+got.Body)
				}
				return texts
			},
			Answer: r.Answer,
		}
	})
}

// change is a delivery of one change of order 7.
func change(operation observer.Operation, seq int64, status string) *observer.Delivery {
	d := actiontest.NewDelivery(7, status)
	d.Event.Operation, d.Event.Seq = operation, &seq
	if seq == 0 {
		d.Event.Seq = nil
	}
	return d
}

func run(t *testing.T, a *search.Action, d *observer.Delivery) observer.Result {
	t.Helper()
	result, err := a.Execute(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestDocumentFollowsTheEntity(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	a := newAction(t, search.Config{URL: e.URL, Index: "orders"})
	for i, c := range []struct {
		d      *observer.Delivery
		status int
		want   any
	}{
		{change(observer.Insert, 10, "new"), 201, "new"},
		{change(observer.Update, 12, "shipped"), 200, "shipped"},
		{change(observer.Update, 12, "shipped"), 200, "shipped"}, // a repeat
		{change(observer.Update, 11, "paid"), 409, "shipped"},    // late
		{change(observer.Delete, 13, "shipped"), 200, nil},
		{change(observer.Delete, 13, "shipped"), 404, nil},
		{change(observer.Update, 12, "shipped"), 409, nil}, // late again: it stays deleted
		{change(observer.Insert, 14, "again"), 201, "again"},
	} {
		if result := run(t, a, c.d); result.Status != c.status || e.document("orders/7")["status"] != c.want {
			t.Errorf("%d: status %d, document %v; want %d, %v", i, result.Status, e.document("orders/7"), c.status, c.want)
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	whole := newAction(t, search.Config{URL: e.URL, Index: "orders"})
	part := newAction(t, search.Config{URL: e.URL, Index: "orders", Update: "merge", BodyTemplate: `{"status": "{{ data.status }}"}`})
	run(t, whole, change(observer.Insert, 1, "new"))
	for range 2 {
		run(t, part, change(observer.Update, 2, "shipped"))
	}
	if diff := cmp.Diff(map[string]any{"number": 7.0, "status": "shipped"}, e.document("orders/7")); diff != "" {
		t.Error(diff)
	}
	run(t, part, change(observer.Delete, 3, ""))
	run(t, part, change(observer.Update, 4, "back"))
	if diff := cmp.Diff(map[string]any{"status": "back"}, e.document("orders/7")); diff != "" {
		t.Error(diff)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for name, c := range map[string]struct {
		version string
		seq     int64
		want    string
	}{
		"of the event":   {"", 5, "version=5&version_type=external_gte"},
		"none to take":   {"", 0, ""},
		"of the data":    {"{{ data.number }}", 0, "version=7&version_type=external_gte"},
		"none wanted":    {"none", 5, ""},
		"a large number": {"9007199254740993", 5, "version=9007199254740993&version_type=external_gte"},
	} {
		a := newAction(t, search.Config{URL: e.URL, Index: strings.ReplaceAll(name, " ", "-"), Version: c.version})
		run(t, a, change(observer.Update, c.seq, "x"))
		if got := e.last().URL.RawQuery; got != c.want {
			t.Errorf("%s: query %q, want %q", name, got, c.want)
		}
	}
	for _, version := range []string{"{{ data.status }}", "-1", "1.5"} {
		a := newAction(t, search.Config{URL: e.URL, Index: "orders", Version: version})
		if _, err := a.Execute(t.Context(), change(observer.Update, 1, "x")); observer.ReasonOf(err) != observer.ReasonTemplate {
			t.Errorf("%s: %v, want a permanent error with reason template", version, err)
		}
	}
}

func TestDeletingWhatIsAbsent(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for _, index := range []string{"orders", "missing"} {
		a := newAction(t, search.Config{URL: e.URL, Index: index})
		if result := run(t, a, change(observer.Delete, 1, "x")); result.Status != 404 {
			t.Errorf("%s: %+v", index, result)
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	a := newAction(t, search.Config{URL: e.URL, Index: "orders-{{ data.number }}", IDTemplate: "{{ data.status }}"})
	for _, id := range []string{"a/b", "../_all", "x?y=1", "%2F", "é #", "a b"} {
		d := change(observer.Update, 0, id)
		run(t, a, d)
		if e.document("orders-7/"+id) == nil {
			t.Errorf("%q went to %s", id, e.last().URL)
		}
		if got := e.last().Header.Get("X-Opaque-Id"); got != d.Key {
			t.Errorf("X-Opaque-Id %q", got)
		}
	}
	for _, id := range []string{"", ".", "..", strings.Repeat("x", 513)} {
		if _, err := a.Execute(t.Context(), change(observer.Update, 0, id)); observer.ReasonOf(err) != observer.ReasonTemplate {
			t.Errorf("%.10q: %v, want a permanent error with reason template", id, err)
		}
	}
	byStatus := newAction(t, search.Config{URL: e.URL, Index: "{{ data.status }}"})
	for _, index := range []string{"", "Orders", "a,b", "_all", "*", "a/b", "..", "<now>", strings.Repeat("x", 256)} {
		if _, err := byStatus.Execute(t.Context(), change(observer.Update, 0, index)); observer.ReasonOf(err) != observer.ReasonTemplate {
			t.Errorf("%.10q: %v, want a permanent error with reason template", index, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  search.Config
		want string
	}{
		"basic":   {search.Config{Username: "u", Password: observer.NewSecret("pass-s3cret")}, "Basic dTpwYXNzLXMzY3JldA=="},
		"api key": {search.Config{APIKey: observer.NewSecret("key-s3cret")}, "ApiKey key-s3cret"},
	} {
		e := newEngine(t)
		c.cfg.URL, c.cfg.Index = e.URL, "orders"
		a := newAction(t, c.cfg)
		e.authorization = c.want
		d := change(observer.Insert, 1, "x")
		run(t, a, d)
		e.authorization = "another"
		result, err := a.Execute(t.Context(), d)
		if err == nil || observer.Retryable(err) || result.Status != 401 {
			t.Errorf("%s: %+v, %v; want a permanent error", name, result, err)
		}
		if text := fmt.Sprint(result, err, string(d.Request), a.Endpoint(t.Context(), d)); strings.Contains(text, "s3cret") || strings.Contains(text, "dTpw") {
			t.Errorf("%s: the secret shows: %s", name, text)
		}
	}
}

func TestErrorsOfTheServer(t *testing.T) {
	t.Parallel()
	conflict := `{"error":{"type":"version_conflict_engine_exception"},"status":409}`
	for name, c := range map[string]struct {
		status    int
		body      string
		d         *observer.Delivery
		cfg       search.Config
		succeeds  bool
		permanent bool
		wait      time.Duration
	}{
		"busy":                       {status: 429, body: `{"error":{"type":"es_rejected_execution_exception"}}`, d: change(observer.Update, 1, "x"), wait: 30 * time.Second},
		"unavailable":                {status: 503, body: `{"error":{"type":"cluster_block_exception"}}`, d: change(observer.Update, 1, "x"), wait: 30 * time.Second},
		"bad document":               {status: 400, body: `{"error":{"type":"mapper_parsing_exception"}}`, d: change(observer.Update, 1, "x"), permanent: true},
		"no such index":              {status: 404, body: `{"error":{"type":"index_not_found_exception"}}`, d: change(observer.Update, 1, "x"), permanent: true},
		"forbidden":                  {status: 403, body: `{"error":{"type":"security_exception"}}`, d: change(observer.Update, 1, "x"), permanent: true},
		"a newer version":            {status: 409, body: conflict, d: change(observer.Update, 1, "x"), succeeds: true},
		"conflict without a version": {status: 409, body: conflict, d: change(observer.Update, 0, "x"), permanent: true},
		"another conflict":           {status: 409, body: `{"error":{"type":"other"}}`, d: change(observer.Update, 1, "x"), permanent: true},
		"conflict of a merge":        {status: 409, body: conflict, d: change(observer.Update, 1, "x"), cfg: search.Config{Update: "merge"}},
		"404 of a proxy":             {status: 404, body: `<html>`, d: change(observer.Delete, 1, "x"), permanent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.URL, c.cfg.Index = actiontest.Answering(t, c.status, c.body, "Retry-After", "30"), "orders"
			result, err := newAction(t, c.cfg).Execute(t.Context(), c.d)
			wait, _ := observer.RetryAfterOf(err)
			if (err == nil) != c.succeeds || err != nil && observer.Retryable(err) == c.permanent || wait != c.wait || result.Status != c.status {
				t.Errorf("%+v, %v, retryable %v, wait %v", result, err, observer.Retryable(err), wait)
			}
		})
	}
}

func TestTooLongDocument(t *testing.T) {
	t.Parallel()
	a := newAction(t, search.Config{URL: "http://127.0.0.1:1", Index: "orders", MaxBodyBytes: 100})
	if err := a.Prepare(t.Context(), change(observer.Update, 1, strings.Repeat("x", 100))); observer.ReasonOf(err) != observer.ReasonTooLarge {
		t.Errorf("%v, want a permanent error with reason too_large", err)
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	with := func(change func(*search.Config)) search.Config {
		cfg := search.Config{URL: "https://search.example.com:9200", Index: "orders"}
		change(&cfg)
		return cfg
	}
	secret := observer.NewSecret("s3cret")
	for name, c := range map[string]struct {
		cfg  search.Config
		want []string
	}{
		"empty":             {search.Config{}, []string{"url", "index"}},
		"not http":          {with(func(c *search.Config) { c.URL = "ftp://s3cret" }), []string{"url"}},
		"credentials":       {with(func(c *search.Config) { c.URL = "https://u:s3cret@h" }), []string{"url"}},
		"query":             {with(func(c *search.Config) { c.URL = "https://h?key=s3cret" }), []string{"url"}},
		"capitals":          {with(func(c *search.Config) { c.Index = "Orders" }), []string{"index"}},
		"bad templates":     {with(func(c *search.Config) { c.Index, c.IDTemplate, c.BodyTemplate, c.Version = "{{", "{{", "{", "{{" }), []string{"index", "id_template", "body_template", "version"}},
		"unknown update":    {with(func(c *search.Config) { c.Update = "upsert" }), []string{"update"}},
		"no password":       {with(func(c *search.Config) { c.Username = "u" }), []string{"password"}},
		"no user":           {with(func(c *search.Config) { c.Password = secret }), []string{"username"}},
		"two of them":       {with(func(c *search.Config) { c.Username, c.Password, c.APIKey = "u", secret, secret }), []string{"api_key"}},
		"a negative length": {with(func(c *search.Config) { c.MaxBodyBytes = -1 }), []string{"max_body_bytes"}},
	} {
		_, err := search.New(c.cfg, http.DefaultClient)
		if diff := cmp.Diff(c.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the secret shows in %q", name, err)
		}
	}
}
