package middleware

import (
	"strconv"
	"strings"

	"github.com/fraiseql/observer"
)

// claimOwner names the owner of a claim so that it says for the holder of which
// lease it was made, if there is one: TERM@LENGTH:NAME#who.
func claimOwner(l observer.Lease, who string) string {
	if l.Term <= 0 {
		return who
	}
	return strconv.FormatInt(l.Term, 10) + "@" + strconv.Itoa(len(l.Name)) + ":" + l.Name + "#" + who
}

// leaseOfOwner reads what claimOwner wrote; the term is 0 when no lease is named.
func leaseOfOwner(owner string) (name string, term int64) {
	number, rest, _ := strings.Cut(owner, "@")
	size, rest, _ := strings.Cut(rest, ":")
	term, err := strconv.ParseInt(number, 10, 64)
	n, err2 := strconv.Atoi(size)
	if err != nil || err2 != nil || n < 0 || n >= len(rest) || rest[n] != '#' {
		return "", 0
	}
	return rest[:n], term
}

// supersedes reports whether the owner of a claim reads under a later term of the
// lease under which another one was made. Whoever had that stopped trusting its
// lease before anybody else could have it, and asks for it before each attempt: it
// may be in the middle of one, and begins no other.
func supersedes(owner, other string) bool {
	name, term := leaseOfOwner(owner)
	otherName, otherTerm := leaseOfOwner(other)
	return name == otherName && 0 < otherTerm && otherTerm < term
}
