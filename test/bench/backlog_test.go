//go:build linux

package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// backlog is how many rows wait in the log.
const backlog = 1_000_000

// BenchmarkPostgresBacklog starts the daemon's binary on a log with a million
// rows and watches until the checkpoint has passed them. The log action stands
// for work: each row is matched, rendered and recorded as done. It reports the
// most memory that the process had resident.
func BenchmarkPostgresBacklog(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "fraiseql-observer")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, "../../cmd/fraiseql-observer").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for b.Loop() {
		url := testenv.Database(b)
		if err := changelog.Migrate(b.Context(), url, changelog.Options{}); err != nil {
			b.Fatal(err)
		}
		conn := testenv.Connect(b, url)
		fillLog(b, conn, backlog)
		begin := time.Now()
		peak := daemonOn(b, binary, url, func() bool {
			return testenv.Value[bool](b, conn, `SELECT to_regclass('fraiseql_observer.tb_checkpoint') IS NOT NULL`) &&
				testenv.Value[bool](b, conn, `SELECT EXISTS (SELECT FROM fraiseql_observer.tb_checkpoint
					WHERE split_part(position, '|', 3) = $1)`, strconv.FormatInt(backlog, 36))
		})
		b.ReportMetric(peak, "peak-MB")
		b.ReportMetric(backlog/time.Since(begin).Seconds(), "events/s")
	}
}

// daemonOn runs the daemon until done says so, and gives its peak of resident
// memory in megabytes.
func daemonOn(b *testing.B, binary, url string, done func() bool) float64 {
	b.Helper()
	config := filepath.Join(b.TempDir(), "fraiseql-observer.toml")
	err := os.WriteFile(config, fmt.Appendf(nil, `
[[databases]]
name = "shop"
url = '%s'
[log]
level = "warn"
[[observers]]
name = "all"
entity = "Order"
[[observers.actions]]
type = "log"
level = "debug"
message_template = "order {{ data.id }} is {{ data.status }}"
`, url), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), binary, "run", "--config", config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-b.Context().Done():
			b.Fatal("ended before the backlog was read")
		}
	}
	peak := peakOf(b, cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	return peak
}

func peakOf(b *testing.B, pid int) float64 {
	b.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb / 1024
		}
	}
	b.Fatal("the system does not tell the peak of memory")
	return 0
}
