package outbound

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
)

// Identity is a digest of texts in their order, as [observer.Identifier] asks
// for.
func Identity(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		// With their lengths: no two lists of parts look the same.
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		_, _ = h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// RequestIdentity is a digest of a request that was not sent yet: its method,
// address, headers and body, without the headers named.
func RequestIdentity(req *http.Request, without ...string) (string, error) {
	parts := []string{req.Method, req.URL.String(), req.Host}
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return "", fmt.Errorf("read the body of a request: %w", err)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			return "", fmt.Errorf("read the body of a request: %w", err)
		}
		parts = append(parts, string(text))
	}
	for _, name := range slices.Sorted(maps.Keys(req.Header)) {
		if !slices.Contains(without, name) {
			parts = append(append(parts, name), req.Header[name]...)
		}
	}
	return Identity(parts...), nil
}
