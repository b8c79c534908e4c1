package outbound

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/fraiseql/observer"
)

const (
	// tokenBytes and wordBytes are from where on a part of a path is taken for
	// a secret: one of letters and digits mixed, and one of any kind.
	tokenBytes = 12
	wordBytes  = 24
)

// Endpoint names a receiver for people and for what they share: its kind, its
// server and the path on it, as in "webhook https://example.com/orders". A path
// that is secret, that redactor knows something of, or that looks like a
// capability is replaced by a hash, so that two of one server still differ:
// "webhook https://example.com #1a2b3c4d".
func Endpoint(redactor observer.Redactor, kind, server, path string, secret bool) string {
	if path == "/" {
		path = ""
	}
	whole := server + path
	if path != "" && (secret || capability(path)) || redactor.Contains(whole) {
		sum := sha256.Sum256([]byte(whole))
		return kind + " " + redactor.Redact(server) + " #" + hex.EncodeToString(sum[:4])
	}
	return kind + " " + whole
}

// capability reports whether a path has a part that nobody would type: whoever
// knows such a URL may use it. Taking a plain name for one costs only its
// readability.
func capability(path string) bool {
	for part := range strings.FieldsFuncSeq(path, isSeparator) {
		mixed := strings.ContainsAny(part, "0123456789") && strings.Trim(part, "0123456789") != ""
		if len(part) >= wordBytes || mixed && len(part) >= tokenBytes {
			return true
		}
	}
	return false
}

func isSeparator(r rune) bool { return strings.ContainsRune("/-_.~:,;=+!", r) }
