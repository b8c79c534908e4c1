package outbound

import (
	"strings"
	"testing"

	"github.com/fraiseql/observer"
)

func TestEndpointNamesAServerAndHidesSecrets(t *testing.T) {
	t.Parallel()
	known := observer.NewRedactor(observer.NewSecret("canary"))
	const server = "https://example.com"
	tests := []struct {
		server, path string
		secret       bool
		want         string // of which a trailing # stands for a hash
	}{
		{server, "/orders", false, "webhook https://example.com/orders"},
		{server, "/api/v2/order-events_2024/", false, "webhook https://example.com/api/v2/order-events_2024/"},
		{server, "/", false, "webhook https://example.com"},
		{server, "/", true, "webhook https://example.com"},
		{server, "", true, "webhook https://example.com"},
		{server, "/orders", true, "webhook https://example.com #"},
		{server, "/a/canary/b", false, "webhook https://example.com #"},
		{"https://canary.example.com", "/orders", false, "webhook https://[redacted].example.com #"},
		{"https://canary.example.com", "", false, "webhook https://[redacted].example.com #"},
		{server, "/api/webhooks/8a7d6f5e4c3b2a1d", false, "webhook https://example.com #"},
		{server, "/hooks/0191e8a0-0000-7000-8000-0191e8a0abcd", false, "webhook https://example.com #"},
		{server, "/hooks/abcdefghijklmnopqrstuvwx/in", false, "webhook https://example.com #"},
		{server, "/customers/123456789012", false, "webhook https://example.com/customers/123456789012"},
	}
	for _, tt := range tests {
		got := Endpoint(known, "webhook", tt.server, tt.path, tt.secret)
		hidden, hash, _ := strings.Cut(got, "#")
		if want, hashed := strings.CutSuffix(tt.want, "#"); hidden != want || hashed != (len(hash) == 8) {
			t.Errorf("%s%s: %q, want %q", tt.server, tt.path, got, tt.want)
		}
	}
	if a, b := Endpoint(known, "slack", server, "/a", true), Endpoint(known, "slack", server, "/b", true); a == b {
		t.Errorf("two receivers have the name %q", a)
	}
}
