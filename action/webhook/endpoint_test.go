package webhook_test

import (
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/webhook"
)

func endpoint(t *testing.T, cfg webhook.Config, d *observer.Delivery) string {
	t.Helper()
	return newAction(t, cfg).Endpoint(t.Context(), d)
}

func TestEndpointIsTheURLUpToItsFirstPlaceholder(t *testing.T) {
	t.Parallel()
	tests := []struct{ url, status, want string }{
		{"https://example.com", "", "webhook https://example.com"},
		{"https://example.com/", "", "webhook https://example.com"},
		{"https://example.com/orders?page=2", "", "webhook https://example.com/orders"},
		{"https://example.com/orders#x", "", "webhook https://example.com/orders"},
		{"https://example.com?status={{ data.status }}", "x", "webhook https://example.com"},
		{"https://example.com:8443/orders/{{ data.number }}/items", "x", "webhook https://example.com:8443/orders/"},
		{"https://example.com/in?n={{ data.number }}", "x", "webhook https://example.com/in"},
		{"https://{{ data.status }}.example.com/orders/{{ data.number }}", "shop-1", "webhook https://shop-1.example.com/orders/"},
		{"https://a{{ data.status }}.b{{ data.status }}.example.com/orders?n={{ data.number }}", "x", "webhook https://ax.bx.example.com/orders"},
		{"https://{{ data.status }}.example.com?n={{ data.number }}", "x", "webhook https://x.example.com"},
		{"https://{{ data.status }}", "localhost", "webhook https://localhost"},
		{"{{ data.status }}", "https://example.com", "webhook https://example.com"},
		{"{{ data.status }}/orders/{{ data.number }}", "https://example.com", "webhook https://example.com #"},
		{"{{ data.status }}?n={{ data.number }}", "https://example.com/customer", "webhook https://example.com #"},
		{"{{ data.status }}", "https://example.com/x?token=1", "webhook https://example.com #"},
		{"https://{{ data.status + ('}}' == '' ? '' : '') }}.example.com/orders/{{ data.number }}", "x", "webhook https://x.example.com"},
		{"{{ data.status }}", "ftp://example.com", ""},
		{"https://{{ data.status }}.example.com", "not a name", ""},
		{"https://{{ data.nope }}.example.com", "x", ""},
	}
	for _, tt := range tests {
		for _, number := range []int{7, 8} {
			got := endpoint(t, webhook.Config{URL: tt.url}, actiontest.NewDelivery(number, tt.status))
			hidden, hash, _ := strings.Cut(got, "#")
			if want, hashed := strings.CutSuffix(tt.want, "#"); hidden != want || hashed != (len(hash) == 8) {
				t.Errorf("%s with %q and %d: %q, want %q", tt.url, tt.status, number, got, tt.want)
			}
		}
	}
}

func TestEndpointDoesNotChangeWithWhatIsNotTheReceiver(t *testing.T) {
	t.Parallel()
	cfg := webhook.Config{URL: "{{ data.status }}/orders/{{ data.number }}"}
	one := endpoint(t, cfg, actiontest.NewDelivery(7, "https://example.com/a"))
	if same := endpoint(t, cfg, actiontest.NewDelivery(8, "https://example.com/a")); same != one {
		t.Errorf("one receiver is called %q and %q", one, same)
	}
	if other := endpoint(t, cfg, actiontest.NewDelivery(7, "https://example.com/b")); other == one {
		t.Errorf("two receivers are called %q", one)
	}
}

func TestEndpointHoldsNoSecret(t *testing.T) {
	t.Parallel()
	const whole = "https://example.com/in/canary-1?x=1"
	tests := map[string]struct {
		url    string
		known  string
		hidden string
		want   string
	}{
		"whole URL":         {whole, whole, "canary-1", "webhook https://example.com #"},
		"whole template":    {"https://example.com/canary-2/{{ data.number }}", "https://example.com/canary-2/{{ data.number }}", "canary-2", "webhook https://example.com #"},
		"template of hosts": {"https://{{ data.status }}.example.com/canary/", "https://{{ data.status }}.example.com/canary/", "canary", "webhook https://shipped.example.com #"},
		"in the path":       {"https://example.com/in/canary-3", "canary-3", "canary-3", "webhook https://example.com #"},
		"in the host":       {"https://canary-4.example.com/in", "canary-4", "canary-4", "webhook https://[redacted].example.com #"},
		"in the query":      {"https://example.com/in?token=canary-5", "canary-5", "canary-5", "webhook https://example.com/in"},
		"beside a template": {"https://{{ data.status }}.example.com/canary-6", "canary-6", "canary-6", "webhook https://shipped.example.com #"},
		"of the event":      {"{{ 'https://example.com/' + data.status }}", "x", "shipped", "webhook https://example.com #"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := webhook.Config{URL: tt.url, Redactor: observer.NewRedactor(observer.NewSecret(tt.known))}
			if name == "of the event" {
				cfg.Redactor = observer.Redactor{}
			}
			got := endpoint(t, cfg, actiontest.NewDelivery(7, "shipped"))
			want, hashed := strings.CutSuffix(tt.want, "#")
			if hidden, hash, _ := strings.Cut(got, "#"); hidden != want || hashed != (hash != "") || strings.Contains(hash, tt.hidden) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestEndpointOfAMalformedEntryCannotBeTold(t *testing.T) {
	t.Parallel()
	d := &observer.Delivery{Malformed: &observer.Malformed{ID: "1"}}
	if got := endpoint(t, webhook.Config{URL: "{{ data.status }}"}, d); got != "" {
		t.Errorf("%q", got)
	}
}

func TestEndpointOfALiteralURLCostsNothing(t *testing.T) { //nolint:paralleltest // It counts allocations, those of other tests too.
	a := newAction(t, webhook.Config{URL: "https://example.com/orders/{{ data.number }}"})
	ctx, d := t.Context(), actiontest.NewDelivery(7, "shipped")
	if n := testing.AllocsPerRun(100, func() { a.Endpoint(ctx, d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPrepareChecksWhatIsNotStored(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]webhook.Config{
		"url":            {URL: "{{ data.status }}"},
		"headers.X-Test": {URL: "https://example.com", Headers: map[string]string{"X-Test": "{{ data.nope }}"}},
	} {
		d := actiontest.NewDelivery(7, "ftp://example.com")
		err := newAction(t, cfg).Prepare(t.Context(), d)
		if observer.ReasonOf(err) != observer.ReasonTemplate || !strings.HasPrefix(err.Error(), name+": ") || d.Request != nil {
			t.Errorf("%v with request %s, want a permanent error about %s", err, d.Request, name)
		}
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, url := range []string{
		"https://example.com/s3cret-in-path", "https://{{ data.status }}.example.com/{{ data.number }}", "{{ data.status }}?{{ '}}' }}",
		"https://s3cret-in-path", "https://a{{data.status}}/s3cret-in-path#{{", "http://{{ 'https://' }}/?#",
	} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		known := observer.NewRedactor(observer.NewSecret("s3cret-in-path"), observer.NewSecret(url))
		a, err := webhook.New(webhook.Config{URL: url, Redactor: known}, nil)
		if err != nil {
			return
		}
		got := a.Endpoint(t.Context(), actiontest.NewDelivery(7, "shipped"))
		if strings.Contains(got, "s3cret-in-path") || strings.Contains(got, "?") || strings.Contains(got, "{{") {
			t.Errorf("the endpoint of %q is %q", url, got)
		}
	})
}
