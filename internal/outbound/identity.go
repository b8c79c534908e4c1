package outbound

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/fraiseql/observer"
)

// Identity is a digest of texts in their order, as [observer.Identifier] asks
// for.
func Identity(parts ...string) string {
	size := 0
	for _, part := range parts {
		size += binary.MaxVarintLen64 + len(part)
	}
	whole := make([]byte, 0, size)
	for _, part := range parts {
		// With their lengths: no two lists of parts look the same.
		whole = binary.AppendUvarint(whole, uint64(len(part)))
		whole = append(whole, part...)
	}
	sum := sha256.Sum256(whole)
	return hex.EncodeToString(sum[:])
}

// PreparedIdentity is the identity of the request that prepare makes of d, all of
// it: an action's Identity.
func PreparedIdentity(
	ctx context.Context, d *observer.Delivery, redactor observer.Redactor, prepare func(context.Context, *observer.Delivery) (*http.Request, error),
) (string, error) {
	req, err := prepare(ctx, d)
	if err != nil {
		return "", Redact(redactor, err)
	}
	return RequestIdentity(req)
}

// RequestIdentity is a digest of a request that was not sent yet: its method,
// address, headers and body.
func RequestIdentity(req *http.Request) (string, error) {
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
		parts = append(append(parts, name), req.Header[name]...)
	}
	return Identity(parts...), nil
}
