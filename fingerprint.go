package observer

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
)

// variable is what differs between errors that are the same: numbers, ids, and
// what stands in quotes.
var variable = regexp.MustCompile(`"[^"]*"|'[^']*'|\b[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}\b|0x[0-9a-fA-F]+|\d+`)

// Fingerprint is a short name for all errors that differ from text only in
// numbers, ids and quoted values; "" for an empty text. HTTP and SMTP codes of
// three digits are not taken for numbers: 404 and 500 are different errors.
func Fingerprint(text string) string {
	if text == "" {
		return ""
	}
	plain := variable.ReplaceAllStringFunc(text, func(found string) string {
		if len(found) == 3 && found[0] >= '1' && found[0] <= '5' {
			return found
		}
		return "#"
	})
	sum := sha256.Sum256([]byte(plain))
	return hex.EncodeToString(sum[:4])
}
