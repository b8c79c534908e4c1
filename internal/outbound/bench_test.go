package outbound

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
)

// BenchmarkExchange includes the receiver's part.
func BenchmarkExchange(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	b.Cleanup(server.Close)
	client := loopback(b).HTTPClient()
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, server.URL, strings.NewReader("body"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Exchange(client, req, observer.Redactor{}); err != nil {
			b.Fatal(err)
		}
	}
}
