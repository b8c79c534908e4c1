package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// escapeMark begins a text that is stored escaped: it is followed by the text
// as a quoted string of Go, in ASCII.
const escapeMark = `escaped:"`

// digestMark begins what stands for a text that is too long for an index.
const digestMark = "sha256:"

// maxKey and maxName are the lengths in bytes up to which a key and a name are
// stored as they are: an index of PostgreSQL holds 2,704 bytes at most, and the
// one that is claimed from holds two names.
const (
	maxKey  = 1500
	maxName = 1000
)

// encoding makes texts of any bytes ones that the database can hold, and back.
// PostgreSQL holds neither the NUL character nor invalid UTF-8.
type encoding struct {
	// ascii is for databases in an encoding other than UTF-8, which lack some
	// characters: there all but ASCII is escaped.
	ascii bool
}

func (e encoding) encode(text string) string {
	if e.holds(text) {
		return text
	}
	return strings.TrimSuffix(escapeMark, `"`) + strconv.QuoteToASCII(text)
}

func (e encoding) holds(text string) bool {
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 || strings.HasPrefix(text, escapeMark) {
		return false
	}
	return !e.ascii || strings.IndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// decode gives what encode was given. Anything else, which a person may have
// written, is given as it is.
func decode(stored string) string {
	if !strings.HasPrefix(stored, escapeMark) {
		return stored
	}
	text, err := strconv.Unquote(strings.TrimPrefix(stored, strings.TrimSuffix(escapeMark, `"`)))
	if err != nil {
		return stored
	}
	return text
}

// key gives the columns key and full_key of a delivery.
func (e encoding) key(key string) (short string, full *string) { return e.short(key, maxKey) }

// name gives the columns for the name of a queue or an endpoint.
func (e encoding) name(name string) (short string, full *string) { return e.short(name, maxName) }

// lane gives the column lane.
func (e encoding) lane(lane string) string {
	short, _ := e.short(lane, maxKey)
	return short
}

// short gives a text that an index can hold, and the text itself where that is
// another one.
func (e encoding) short(name string, limit int) (short string, full *string) {
	text := e.encode(name)
	if len(text) <= limit {
		return text, nil
	}
	sum := sha256.Sum256([]byte(name))
	return digestMark + hex.EncodeToString(sum[:]), &text
}

// json is v as JSON. Invalid UTF-8 in it becomes U+FFFD.
func (e encoding) json(v any) (*string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	text := e.encode(string(b))
	return &text, nil
}

// exact is a text that keeps every byte in JSON, too.
type exact string

// MarshalJSON escapes what JSON would replace.
func (t exact) MarshalJSON() ([]byte, error) { return json.Marshal(encoding{}.encode(string(t))) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *exact) UnmarshalJSON(b []byte) error {
	var stored string
	err := json.Unmarshal(b, &stored)
	*t = exact(decode(stored))
	return err
}
