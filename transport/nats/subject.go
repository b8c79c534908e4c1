package nats

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/fraiseql/observer"
)

// Subjects names the subjects of a stream. It is made with [NewSubjects].
type Subjects struct {
	prefix     string
	partitions int
}

// Place is what the subject of a message says.
type Place struct {
	// Database and EntityType are names as they were given, or their tokens where
	// the names were too long for a subject.
	Database, EntityType string
	Partition            int
	Operation            observer.Operation
}

// NewSubjects checks a prefix and a number of partitions.
func NewSubjects(prefix string, partitions int) (Subjects, error) {
	if err := checkPrefix(prefix); err != nil {
		return Subjects{}, fmt.Errorf("subject prefix %q: %w", prefix, err)
	}
	if partitions < 1 || partitions > maxPartitions {
		return Subjects{}, fmt.Errorf("%d partitions: use 1 to %d", partitions, maxPartitions)
	}
	return Subjects{prefix: prefix, partitions: partitions}, nil
}

// maxPartitions keeps what every worker has to look at small.
const maxPartitions = 1024

// maxPrefix leaves the rest of a protocol line, 4096 bytes by default, to the
// other tokens.
const maxPrefix = 256

func checkPrefix(prefix string) error {
	if len(prefix) > maxPrefix {
		return fmt.Errorf("it is longer than %d bytes", maxPrefix)
	}
	if strings.HasPrefix(prefix, "$") {
		return errors.New("subjects that begin with $ belong to the server")
	}
	for token := range strings.SplitSeq(prefix, ".") {
		if token == "" {
			return errors.New("a subject has no empty tokens")
		}
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' || r == '>' }) {
			return errors.New("use printable ASCII characters without blanks, * and >")
		}
	}
	return nil
}

// Partitions is how many there are, numbered from 0.
func (s Subjects) Partitions() int { return s.partitions }

// Event is the subject of an event of a database.
func (s Subjects) Event(database string, e *observer.Event) string {
	return s.join(EncodeToken(database), strconv.Itoa(s.PartitionOf(e)), EncodeToken(e.EntityType), EncodeToken(string(e.Operation)))
}

// PartitionOf is the partition of an event: that of its entity, and of the event
// itself where it has no entity id, so that such events spread.
func (s Subjects) PartitionOf(e *observer.Event) int {
	if e.EntityID == "" {
		return Partition(e.EntityType, e.ID, s.partitions)
	}
	return Partition(e.EntityType, e.EntityID, s.partitions)
}

// All is the filter of everything.
func (s Subjects) All() string { return s.prefix + ".>" }

// InPartition is the filter of one partition, of all databases.
func (s Subjects) InPartition(partition int) string {
	return s.join("*", strconv.Itoa(partition), ">")
}

// OfDatabase is the filter of one database.
func (s Subjects) OfDatabase(database string) string { return s.join(EncodeToken(database), ">") }

// OfEntity is the filter of one entity type in one partition, of all databases.
func (s Subjects) OfEntity(partition int, entityType string) string {
	return s.join("*", strconv.Itoa(partition), EncodeToken(entityType), "*")
}

func (s Subjects) join(tokens ...string) string {
	return s.prefix + "." + strings.Join(tokens, ".")
}

// Parse reads what [Subjects.Event] wrote. Anything else is an error that names
// the subject.
func (s Subjects) Parse(subject string) (Place, error) {
	rest, ok := strings.CutPrefix(subject, s.prefix+".")
	tokens := strings.Split(rest, ".")
	if !ok || len(tokens) != 4 {
		return Place{}, fmt.Errorf("subject %q is not %s.<database>.<partition>.<entity type>.<operation>", subject, s.prefix)
	}
	partition, err := strconv.Atoi(tokens[1])
	if err != nil || partition < 0 || partition >= s.partitions || strconv.Itoa(partition) != tokens[1] {
		return Place{}, fmt.Errorf("subject %q: %q is not a partition (0 to %d)", subject, tokens[1], s.partitions-1)
	}
	op, err := observer.ParseOperation(tokens[3])
	if err != nil {
		return Place{}, fmt.Errorf("subject %q: %w", subject, err)
	}
	place := Place{Partition: partition, Operation: op, Database: tokens[0], EntityType: tokens[2]}
	if name, ok := DecodeToken(place.Database); ok {
		place.Database = name
	}
	if name, ok := DecodeToken(place.EntityType); ok {
		place.EntityType = name
	}
	return place, nil
}

const (
	// emptyToken stands for the empty name. No other name has it: a % that
	// encodes a byte has two digits behind it.
	emptyToken = "%"
	// shortened is between the beginning of a long name and its digest.
	shortened = "%~"
	// longestToken bounds a token; shortTo is what is left of a longer one.
	longestToken = 200
	shortTo      = 120
)

// EncodeToken makes one token of a subject from any text, another one for each
// text: letters, digits, - and _ stay, every other byte becomes % and two
// hexadecimal digits, and the empty text a single %. A token of more than 200
// bytes is cut and ends in the SHA-256 digest of the text.
func EncodeToken(name string) string {
	if name == "" {
		return emptyToken
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(name)+8)
	for i := range len(name) {
		c := name[i]
		if plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	if len(b) <= longestToken {
		return string(b)
	}
	cut := shortTo
	for i := 1; i <= 2; i++ { // not in the middle of a byte
		if b[shortTo-i] == '%' {
			cut = shortTo - i
		}
	}
	sum := sha256.Sum256([]byte(name))
	return string(b[:cut]) + shortened + hex.EncodeToString(sum[:])
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// DecodeToken is the text that [EncodeToken] made a token from. ok is false when
// it did not make it, or had to cut it.
func DecodeToken(token string) (name string, ok bool) {
	if token == emptyToken {
		return "", true
	}
	b := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '%' {
			if len(token) < i+3 {
				return "", false
			}
			n, err := strconv.ParseUint(token[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			c, i = byte(n), i+2
		}
		b = append(b, c)
	}
	name = string(b)
	return name, EncodeToken(name) == token
}
