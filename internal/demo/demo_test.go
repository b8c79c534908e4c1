package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == workerArgument {
		os.Exit(work(os.Args[2]))
	}
	goleak.VerifyTestMain(withPostgres{m})
}

// withPostgres ends the server that tests share after they ran.
type withPostgres struct{ *testing.M }

func (m withPostgres) Run() int { return testenv.Main(m.M) }

// transcript collects what the demo prints and calls seen with each piece.
type transcript struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	seen func(piece string)
}

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.seen != nil {
		tr.seen(string(p))
	}
	return tr.buf.Write(p)
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.buf.String()
}

// runUntil runs a demo with no end of its own and interrupts it when each of
// the texts was printed at least n times, however slow the machine is.
func runUntil(t *testing.T, opts Options, n int, texts ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	counts := map[string]int{}
	out := transcript{seen: func(piece string) {
		reached := true
		for _, text := range texts {
			counts[text] += strings.Count(piece, text)
			reached = reached && counts[text] >= n
		}
		if reached {
			cancel()
		}
	}}
	opts.Duration = time.Hour
	err := Run(ctx, opts, &out)
	return out.String(), err
}

// count reads a row of the summary.
func count(t *testing.T, text, row string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + row + ` +(\d+)\b`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no row %q in:\n%s", row, text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEverythingArrives(t *testing.T) {
	t.Parallel()
	text, err := runUntil(t, Options{Rate: 100}, 5, "order-events ", "order-shipped ", "attempt 2  accepted", "refused 422")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Log(text[max(0, len(text)-1500):])
	expected, delivered, dead := count(t, text, "expected"), count(t, text, "delivered"), count(t, text, "dead")
	if expected != delivered+dead || delivered == 0 || dead == 0 {
		t.Errorf("expected %d, delivered %d, dead %d: want all three, and nothing missing", expected, delivered, dead)
	}
	if n := count(t, text, "committed"); n < 20 || n > expected {
		t.Errorf("%d changes committed, want some, and no more than the %d deliveries", n, expected)
	}
	for _, row := range []string{"lost", "repeated", "waiting"} {
		if n := count(t, text, row); n != 0 {
			t.Errorf("%s is %d, want 0", row, n)
		}
	}
	if n := count(t, text, "retried"); n < 5 {
		t.Errorf("retried is %d although an endpoint is flaky", n)
	}
	if strings.Contains(text, "never committed") {
		t.Error("the receiver got what was never committed")
	}
}

func TestOutputShape(t *testing.T) {
	t.Parallel()
	text, err := runUntil(t, Options{Rate: 100}, 1, "attempt 2  accepted")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"committed": `(?m)^committed +\d+  changes in \d+ transactions; \d+ rolled back$`,
		"delivery":  `(?m)^\d\d:\d\d:\d\d\.\d{3}  order-events +Order \d+ +INSERT  attempt 1  accepted +\d+\.\d ms  [0-9a-f-]{36}/order-events/0$`,
		"refusal":   `(?m)^\S+  order-created +Order \d+ +INSERT  attempt 1  refused 503 `,
		"retry":     `(?m)^\S+  order-created +Order \d+ +INSERT  attempt 2  accepted `,
		"latency":   `(?m)^latency +\d+\.\d ms at p50, \d+\.\d ms at p99`,
		"next":      "(?m)^next: `fraiseql-observer init`.*capture add.*\n.*`fraiseql-observer run`",
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s: nothing matches %s in:\n%s", name, want, text)
		}
	}
	if strings.ContainsAny(text, "\r\x1b") {
		t.Error("terminal codes in a pipe")
	}
}

func TestQuietPrintsTheSummaryOnly(t *testing.T) {
	t.Parallel()
	var out transcript
	if err := Run(t.Context(), Options{Duration: 200 * time.Millisecond, Quiet: true}, &out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if !strings.HasPrefix(text, "committed ") || strings.Contains(text, "attempt 1") || strings.Contains(text, "next:") {
		t.Errorf("more than the summary:\n%s", text)
	}
}

func TestTerminalKeepsAProgressLine(t *testing.T) {
	t.Parallel()
	text, err := runUntil(t, Options{Terminal: true}, 1, eraseLine+"  ")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`\r\x1b\[K +\d+\.\d s  \d+ changes committed, \d+ of \d+ deliveries accepted`).MatchString(text) {
		t.Errorf("no progress line in %q", text)
	}
	if last := text[strings.LastIndex(text, eraseLine)+len(eraseLine):]; !strings.HasPrefix(last, "\ncommitted ") {
		t.Errorf("the progress line is not erased before the summary: %q", last)
	}
}

func TestFirstDeliveryWithinASecond(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began, first := time.Now(), time.Duration(0)
	out := transcript{seen: func(piece string) {
		if first == 0 && strings.Contains(piece, "accepted  ") {
			first = time.Since(began)
			cancel()
		}
	}}
	if err := Run(ctx, Options{Duration: time.Minute}, &out); err != nil {
		t.Fatal(err)
	}
	t.Logf("first delivery after %s", first)
	// Generous: the race detector and a busy machine take their share.
	if first == 0 || first > 5*time.Second {
		t.Errorf("the first delivery came after %s", first)
	}
}

func TestCancelledEarlyStillPrintsTheSummary(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := transcript{seen: func(piece string) {
		if strings.Contains(piece, "attempt") {
			cancel()
		}
	}}
	began := time.Now()
	if err := Run(ctx, Options{Duration: time.Hour}, &out); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %s to stop", took)
	}
	text := out.String()
	if count(t, text, "committed") == 0 || count(t, text, "lost") != 0 {
		t.Errorf("unexpected summary:\n%s", text)
	}
}

// TestLossIsReported breaks the capture, so that changes are committed and
// never recorded. An oracle that cannot fail proves nothing.
func TestLossIsReported(t *testing.T) {
	t.Parallel()
	opts := Options{Rate: 50, drain: 300 * time.Millisecond, tamper: dropInsertTrigger}
	text, err := runUntil(t, opts, 3, "UPDATE  attempt 1  accepted")
	if !errors.Is(err, ErrLost) {
		t.Fatalf("error is %v, want ErrLost\n%s", err, text)
	}
	if count(t, text, "lost") == 0 || !strings.Contains(text, "lost: order-created: INSERT of version ") {
		t.Errorf("the loss is not named:\n%s", text)
	}
}

func dropInsertTrigger(ctx context.Context, shop *shop) error {
	var name string
	row := shop.db.QueryRowContext(ctx, `SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '%\_insert\_%' ESCAPE '\'`)
	if err := row.Scan(&name); err != nil {
		return err
	}
	_, err := shop.db.ExecContext(ctx, `DROP TRIGGER "`+name+`"`)
	return err
}

func TestNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	// What the environment says about a real daemon is none of the demo's.
	t.Setenv("DATABASE_URL", "postgres://nobody@nowhere/none")
	t.Setenv("FRAISEQL_MAX_CONCURRENCY", "nonsense")
	var out transcript
	if err := Run(t.Context(), Options{Duration: 100 * time.Millisecond}, &out); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v (%v)", left, err)
	}
}

// closing is an output that is gone after a few pieces.
type closing struct {
	left int
	err  error
}

func (c *closing) Write(p []byte) (int, error) {
	if c.left--; c.left < 0 {
		return 0, c.err
	}
	return len(p), nil
}

// When nobody reads any more the demo ends, well before its time. A full disk is
// told; a closed pipe is what the reader wanted.
func TestOutputThatIsGoneEndsIt(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for _, tt := range []struct{ gone, want error }{{syscall.EPIPE, nil}, {full, full}} {
		if err := Run(t.Context(), Options{Duration: time.Hour}, &closing{3, tt.gone}); !errors.Is(err, tt.want) {
			t.Errorf("with the error %v of its output it ended with %v, want %v", tt.gone, err, tt.want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]Options{"duration": {Duration: -time.Second}, "rate": {Rate: -1}} {
		if err := Run(t.Context(), opts, &transcript{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error is %v, want one that names it", name, err)
		}
	}
}
