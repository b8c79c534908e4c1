package cli_test

import (
	"strings"
	"testing"
)

// Invariant 9: a server that cannot be reached, or a URL that cannot be read,
// does not bring out the password in it.
func TestInvariant9NoCommandPrintsThePasswordOfADatabase(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	for _, url := range []string{
		"postgres://ann:s3c@127.0.0.1:1/x", "postgres://ann@127.0.0.1:1/x?password=s3c",
		"postgres://ann:s3c@127.0.0.1:badport/x", "postgres://ann:s3c%zz@127.0.0.1:1/x", "postgres://ann:s3c@127.0.0.1:1/x?connect_timeout=s3c",
	} {
		for _, command := range []string{
			"status --detailed", "status --format json", "doctor", "migrate", "run", "capture list", "validate-config", "dlq list", "endpoints list",
		} {
			r := p.run(append(strings.Fields(command), "--database", url)...)
			if text := r.stdout + r.stderr; strings.Contains(text, "s3c") || text == "" {
				t.Errorf("%s --database %s ended with code %d and printed %q", command, url, r.code, text)
			}
		}
	}
}
