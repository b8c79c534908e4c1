package config

import (
	"maps"
	"slices"
	"strings"
)

// CheckEnvironment reports variables, as os.Environ lists them, that look like
// one of a key and are none: a misspelled one would be ignored silently. It
// gives [Errors]. Variables that resemble no key are left alone, because other
// programs of FraiseQL have the prefix FRAISEQL_ too.
func (c *Config) CheckEnvironment(environ []string) error {
	var errs Errors
	known := slices.Sorted(maps.Keys(c.variables))
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "FRAISEQL_") || c.variables[name] {
			continue
		}
		message := ""
		if best := nearestVariable(name, known); best != "" {
			message = "no key has this environment variable: did you mean " + best + "?"
		} else if ours(name) {
			message = "no key has this environment variable: unset it, or see docs/configuration.md"
		}
		if message != "" {
			errs = append(errs, Error{File: c.Path, Key: name, Message: message})
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs.sorted()
}

// ours reports whether the variable is in one of our sections.
func ours(name string) bool {
	for _, section := range []string{
		"DATABASES", "STATE", "JOB_QUEUE", "CACHE", "ENDPOINTS", "BREAKER", "LIMITS", "DEAD_LETTERS", "SMTP", "REDIS", "DEDUP", "TRANSPORT", "NATS", "BRIDGE", "LEASES", "ALERT", "OBSERVERS",
	} {
		if strings.HasPrefix(name, "FRAISEQL_"+section+"_") {
			return true
		}
	}
	return false
}

// nearestVariable allows two letters to differ: a third, as for keys, of a name
// this long would match what is something else.
func nearestVariable(name string, known []string) string {
	for _, candidate := range known {
		if editDistance(name, candidate) <= 2 {
			return candidate
		}
	}
	return ""
}
