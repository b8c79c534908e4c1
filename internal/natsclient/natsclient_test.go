package natsclient_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/natsclient"
)

func TestServers(t *testing.T) {
	t.Parallel()
	type server struct {
		Place, Host, Secret string
		TLS                 bool
	}
	tests := map[string]struct {
		urls    string
		want    []server
		refused string
	}{
		"one":                    {urls: "nats://a.example.com", want: []server{{"a.example.com:4222", "a.example.com", "", false}}},
		"a port":                 {urls: "nats://a:5000", want: []server{{"a:5000", "a", "", false}}},
		"a slash":                {urls: "nats://a/", want: []server{{"a:4222", "a", "", false}}},
		"encrypted":              {urls: "tls://a", want: []server{{"a:4222", "a", "", true}}},
		"IPv6":                   {urls: "nats://[::1]:4223", want: []server{{"[::1]:4223", "::1", "", false}}},
		"a password":             {urls: "nats://bob:s3cret@a", want: []server{{"a:4222", "a", "s3cret", false}}},
		"an encoded password":    {urls: "nats://bob:s3cret%2F@a", want: []server{{"a:4222", "a", "s3cret/", false}}},
		"a token":                {urls: "nats://s3cret@a", want: []server{{"a:4222", "a", "s3cret", false}}},
		"several, with blanks":   {urls: " tls://a , tls://b:1", want: []server{{"a:4222", "a", "", true}, {"b:1", "b", "", true}}},
		"nothing":                {urls: "", refused: "is required"},
		"blanks":                 {urls: " \t", refused: "is required"},
		"a comma too many":       {urls: "nats://a,", refused: "is not the URL"},
		"another scheme":         {urls: "wss://s3cret@a", refused: "is not the URL"},
		"no scheme":              {urls: "s3cret@a:4222", refused: "is not the URL"},
		"no host":                {urls: "nats://:4222", refused: "is not the URL"},
		"not a port":             {urls: "nats://s3cret@a:x", refused: "is not the URL"},
		"a path":                 {urls: "nats://s3cret@a/x", refused: "must end after"},
		"a question":             {urls: "nats://s3cret@a?x=1", refused: "must end after"},
		"a fragment":             {urls: "nats://bob:s3c#ret@a", refused: "is not the URL"},
		"a fragment at the end":  {urls: "nats://s3cret@a#x", refused: "must end after"},
		"an encryption for some": {urls: "tls://s3cret@a,nats://b", refused: "both nats:// and tls://"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers, err := natsclient.Servers(observer.NewSecret(tt.urls))
			if (err != nil) != (tt.refused != "") || err != nil && !strings.Contains(err.Error(), tt.refused) {
				t.Fatalf("%v, want %q", err, tt.refused)
			}
			if err != nil && strings.Contains(err.Error(), "s3c") {
				t.Errorf("%v has a secret", err)
			}
			var got []server
			for _, s := range servers {
				if !strings.Contains(tt.urls, s.URL) || strings.TrimSpace(s.URL) != s.URL {
					t.Errorf("the URL %q is not as it was written", s.URL)
				}
				got = append(got, server{s.Place, s.Host, s.Secret.Reveal(), s.TLS})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExposed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		urls      string
		encrypted bool
		want      []string
	}{
		"another host":           {"nats://a.example.com", false, []string{"a.example.com:4222"}},
		"encrypted by files":     {"nats://a.example.com", true, nil},
		"encrypted by URL":       {"tls://a.example.com", false, nil},
		"some of several":        {"nats://localhost,nats://10.0.0.1:1,nats://[2001:db8::1]", false, []string{"10.0.0.1:1", "[2001:db8::1]:4222"}},
		"this host":              {"nats://LocalHost,nats://127.0.0.1,nats://127.8.9.1,nats://[::1],nats://[::ffff:127.0.0.1]", false, nil},
		"all addresses":          {"nats://0.0.0.0", false, []string{"0.0.0.0:4222"}},
		"a name like this host":  {"nats://localhost.example.com", false, []string{"localhost.example.com:4222"}},
		"a name like an address": {"nats://127.0.0.1.example.com", false, []string{"127.0.0.1.example.com:4222"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers, err := natsclient.Servers(observer.NewSecret(tt.urls))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, natsclient.Exposed(servers, tt.encrypted)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
