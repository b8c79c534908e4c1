package config

import (
	"regexp"
	"slices"
	"strings"
)

var (
	// bare keys need no quotes in TOML.
	bare = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	// indexes are the positions in a path.
	indexes = regexp.MustCompile(`\[\d+\]`)
	// whole is an unexpanded text of which nothing stands in the file.
	whole = regexp.MustCompile(`^\$(\{\w+\}|\w+)$`)
	// position is where the observer of a variable stands in the file.
	position = regexp.MustCompile(`^FRAISEQL_OBSERVERS_\d+_`)
	// validName is what may name an observer or a database: they are parts of
	// keys, metrics and file names.
	validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	// variableName is what may name an environment variable.
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	notWord      = regexp.MustCompile(`[^A-Z0-9]+`)
)

const nameRule = "must begin with a letter or a digit and go on with at most 99 letters, digits, dots, underscores or hyphens"

// notAvailable is said of words that FraiseQL users know and this version lacks.
const notAvailable = "is not available in this version"

// unavailablePaths are the keys and sections that FraiseQL users know and this
// version lacks, each with what is below it.
func unavailablePaths() []string {
	return []string{
		"admin", "performance.backlog_alert_threshold",
	}
}

// unavailableVariables are the environment variables of those.
func unavailableVariables() []string {
	return []string{"FRAISEQL_ADMIN_LISTEN", "FRAISEQL_BACKLOG_ALERT_THRESHOLD"}
}

func unavailable(path string) bool {
	return slices.Contains(unavailablePaths(), path)
}

// variable is the name of the environment variable of a key. Some stand without
// their section or in another one, as FraiseQL has them.
func variable(prefix, key string) string {
	switch prefix {
	case "", "FRAISEQL_PERFORMANCE":
		prefix = "FRAISEQL"
	case "FRAISEQL_TRANSPORT":
		return transportVariable(key)
	case "FRAISEQL_NATS_JETSTREAM":
		prefix = "FRAISEQL_NATS"
	}
	return prefix + "_" + notWord.ReplaceAllString(strings.ToUpper(key), "_")
}

// transportVariable is that of a key or table of [transport].
func transportVariable(key string) string {
	switch key {
	case "transport":
		return "FRAISEQL_OBSERVER_TRANSPORT"
	case "run_bridge":
		return "FRAISEQL_NATS_ENABLE_BRIDGE"
	case "run_executors":
		return "FRAISEQL_NATS_RUN_EXECUTORS"
	}
	return "FRAISEQL_" + notWord.ReplaceAllString(strings.ToUpper(key), "_")
}

// suggestion names the key that was probably meant, or else all that are known.
// The hidden ones may be meant too, but are not listed.
func suggestion(word string, known, hidden []string) string {
	if best := nearest(word, slices.Concat(known, hidden)); best != "" {
		return ": did you mean " + best + "?"
	}
	return " (known here: " + strings.Join(known, ", ") + ")"
}

// nearest is the known word with the smallest edit distance, "" when none is
// near enough to be a misspelling: a third of the word, at least one letter.
func nearest(word string, known []string) string {
	best, distance := "", max(1, len(word)/3)+1
	for _, candidate := range known {
		if d := editDistance(strings.ToLower(word), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// editDistance counts insertions, deletions, substitutions and swaps of
// neighbours that turn a into b.
func editDistance(a, b string) int {
	// A key of a megabyte is no misspelling, and the work is quadratic.
	if len(a) > 100 || len(b) > 100 {
		return max(len(a), len(b))
	}
	var before []int
	previous := make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(previous[j+1]+1, row[j]+1, previous[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, previous = previous, row
	}
	return previous[len(b)]
}

// list writes words for a message: a, b or c.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
