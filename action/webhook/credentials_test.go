package webhook_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/webhook"
)

// TestInvariant9CredentialsWrittenInTheFileAreNotRepeated has a receiver that
// answers with what it got, as some do in their errors.
func TestInvariant9CredentialsWrittenInTheFileAreNotRepeated(t *testing.T) {
	t.Parallel()
	basic := base64.StdEncoding.EncodeToString([]byte("shop:canary-password"))
	basicShort := base64.StdEncoding.EncodeToString([]byte("shop:pw1"))
	tests := map[string]struct{ header, value, query, said, hidden string }{
		"bearer":             {header: "Authorization", value: "Bearer canary-1", said: "canary-1"},
		"bearer of the case": {header: "authorization", value: "bearer   canary-1 ", said: "you sent canary-1", hidden: "canary-1"},
		"without a scheme":   {header: "Authorization", value: "canary-2", said: "canary-2"},
		"basic":              {header: "Authorization", value: "Basic " + basic, said: basic},
		"basic, decoded":     {header: "Authorization", value: "Basic " + basic, said: "no user shop with canary-password", hidden: "canary-password"},
		"parameters":         {header: "Authorization", value: `Token realm="shopping", token="canary-8"`, said: "bad canary-8 for shopping", hidden: "canary-8"},
		"api key":            {header: "X-Api-Key", value: "canary-3", said: "key canary-3 is revoked", hidden: "canary-3"},
		"key in one word":    {header: "apikey", value: "canary-3", said: "canary-3"},
		"any token":          {header: "X-Shop-Access-Token", value: "canary-4", said: "canary-4"},
		"a word of a name":   {header: "X-Auth", value: "canary-4", said: "canary-4"},
		"secret":             {header: "X_Client_Secret", value: "can ary", said: "can ary"},
		"password":           {header: "X-Password", value: "canary-5", said: "canary-5"},
		"cookie":             {header: "Cookie", value: "theme=dark; session=canary-6", said: "no session canary-6", hidden: "canary-6"},
		"beside a template":  {header: "X-Token", value: "{{ data.number }}-canary-7", said: "-canary-7"},
		"between templates":  {header: "X-Token", value: "{{ data.number }}canary{{ data.status }}", said: "canary"},
		"inside JSON":        {header: "X-Token", value: "canary/10+\"x", said: `{"bad": "canary\/10+\"x"}`, hidden: `canary\/10`},
		"short bearer":       {header: "Authorization", value: "Bearer abc", said: "abc, (abc) and abc abc: no such token", hidden: "abc"},
		"short and basic":    {header: "Authorization", value: "Basic " + basicShort, said: "no user shop with pw1", hidden: "pw1"},
		"short token":        {header: "X-Token", value: "a.b", said: "token=a.b;", hidden: "a.b"},
		"query":              {query: "?page=2&api_key=canary%2F9&x={{ data.number }}", said: "bad key canary/9", hidden: "canary/9"},
		"query, after a ?":   {query: "{{ data.number > 1 ? 'token=' : '' }}?x=1&token=canary-9", said: "canary-9"},
		"query, encoded":     {query: "?access_token=canary%2F9", said: "canary%2F9"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write([]byte(tt.said))
			}))
			defer refusing.Close()
			cfg := webhook.Config{URL: refusing.URL + "/x" + tt.query}
			if tt.header != "" {
				cfg.Headers = map[string]string{tt.header: tt.value}
			}
			result, err := newAction(t, cfg).Execute(t.Context(), actiontest.NewDelivery(7, "shipped"))
			hidden := tt.hidden
			if hidden == "" {
				hidden = tt.said
			}
			if err == nil || strings.Contains(result.Detail, hidden) || !strings.Contains(result.Detail, "[redacted]") {
				t.Errorf("detail %q of %v", result.Detail, err)
			}
		})
	}
}

// What is no credential stays readable: answers say what went wrong.
func TestOtherHeadersAreShown(t *testing.T) {
	t.Parallel()
	const said = "no shop tenant-1 with theme dark, see Bearer and id of the author x"
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(said))
	}))
	t.Cleanup(refusing.Close)
	result, _ := newAction(t, webhook.Config{URL: refusing.URL + "/?shop=tenant-1", Headers: map[string]string{
		"X-Tenant": "tenant-1", "Accept": "theme", "X-Author": "author", "Authorization": "Bearer {{ data.status }}", "X-Sort-Key": "id", "X-Token": "no-s",
	}}).Execute(t.Context(), actiontest.NewDelivery(7, "shipped"))
	if result.Detail != said {
		t.Errorf("detail %q", result.Detail)
	}
}

func TestLiteralCredentials(t *testing.T) {
	t.Parallel()
	cfg := webhook.Config{
		URL: "https://example.com/?token=written&key=from-environment", Redactor: observer.NewRedactor(observer.NewSecret("from-environment")),
		Headers: map[string]string{
			"Authorization": "Bearer from-environment", "X-Token": "written", "X-Key": "{{ data.key }}", "Accept": "text/plain",
			"X-Password": "from-environment",
		},
	}
	if got := cfg.LiteralCredentials(); !slices.Equal(got, []string{"headers.X-Token", "url"}) {
		t.Errorf("literal credentials in %q", got)
	}
	if got := (webhook.Config{URL: "https://example.com/?page=2"}).LiteralCredentials(); len(got) != 0 {
		t.Errorf("literal credentials in %q", got)
	}
}
