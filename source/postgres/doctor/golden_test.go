package doctor_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/doctor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func captureOrders(t *testing.T, dsn string) {
	t.Helper()
	if _, err := capture.Add(t.Context(), dsn, capture.Capture{Table: "orders", Entity: "Order"}); err != nil {
		t.Fatal(err)
	}
}

// golden compares the text of a report, without what differs from run to run.
func golden(t *testing.T, name string, report doctor.Report) {
	t.Helper()
	var b strings.Builder
	if err := report.WriteText(&b, 0); err != nil {
		t.Fatal(err)
	}
	got := mask(b.String())
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expected, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(expected), got); diff != "" {
		t.Errorf("%s differs (-want +got; rewrite with -update):\n%s", name, diff)
	}
}

func mask(text string) string {
	for _, m := range []struct{ pattern, mask string }{
		{`127\.0\.0\.1:\d+/\w+`, "HOST:PORT/DATABASE"},
		{`PostgreSQL \d.*`, "PostgreSQL VERSION"},
		{`\d+ of (\d+) connections`, "N of $1 connections"},
		{`agree to within \S+`, "agree to within TIME"},
		{`pid \d+`, "pid PID"},
		{`pg_terminate_backend\(\d+\)`, "pg_terminate_backend(PID)"},
		{`open for \d\S*s\b`, "open for AGE"},
		{`[\d.]+ (bytes|KiB|MiB)`, "SIZE"},
	} {
		text = regexp.MustCompile(m.pattern).ReplaceAllString(text, m.mask)
	}
	return text
}

func report() doctor.Report {
	return doctor.Report{
		Database: "db:5432/shop", Role: "app", Log: "core.tb_entity_change_log",
		Findings: []doctor.Finding{
			{Check: "log", Level: doctor.OK, What: "the change log is there"},
			{Check: "wake_up", Level: doctor.Note, What: "the mode is\x1b[31m never", Do: "nothing"},
			{Check: "sequence", Level: doctor.Problem, What: "core.s hands out 10 keys in advance, so that changes come in the wrong order", Do: "ALTER SEQUENCE core.s CACHE 1;"},
			{Check: "clock", Level: doctor.Warning, What: "the clock is wrong", Do: "synchronize"},
			{Check: "wake_up", Level: doctor.Note, What: "and more", Do: ""},
		},
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	const expected = `db:5432/shop as app, change log core.tb_entity_change_log

problem  sequence  core.s hands out 10 keys in advance, so
                   that changes come in the wrong order
                   do: ALTER SEQUENCE core.s CACHE 1;
warning  clock     the clock is wrong
                   do: synchronize
note     wake_up   the mode is` + "\uFFFD" + `[31m never
                   do: nothing
note     wake_up   and more
ok       log       the change log is there

1 problem, 1 warning, 2 notes, 1 ok
`
	var b strings.Builder
	if err := report().WriteText(&b, 60); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(expected, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	r := report()
	r.Findings = r.Findings[2:3]
	got, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const expected = `{
 "database": "db:5432/shop",
 "role": "app",
 "log": "core.tb_entity_change_log",
 "findings": [
  {
   "check": "sequence",
   "level": "problem",
   "what": "core.s hands out 10 keys in advance, so that changes come in the wrong order",
   "do": "ALTER SEQUENCE core.s CACHE 1;"
  }
 ]
}`
	if diff := cmp.Diff(expected, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWorst(t *testing.T) {
	t.Parallel()
	r := report()
	for _, worst := range []doctor.Level{doctor.Problem, doctor.Warning, doctor.Note, doctor.OK} {
		if got := r.Worst(); got != worst {
			t.Errorf("worst is %s, want %s", got, worst)
		}
		r.Findings = slices.DeleteFunc(r.Findings, func(f doctor.Finding) bool { return f.Level == worst })
	}
}
