package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// findBinaries returns the folder of PostgreSQL's server binaries, and installs
// them where that is possible. The error has every reason why there is none.
func findBinaries(ctx context.Context) (string, error) {
	if !canStartServers {
		return "", errors.New("no PostgreSQL for this test: its server can only be started on a Unix system; set TEST_DATABASE_URL")
	}
	if dir := os.Getenv("TEST_POSTGRES_BIN"); dir != "" {
		if !hasServer(dir) {
			return "", fmt.Errorf("no PostgreSQL for this test: TEST_POSTGRES_BIN is %s, which has no initdb and postgres", dir)
		}
		return dir, nil
	}
	if dir := installed(ctx); dir != "" {
		return dir, nil
	}
	dir, err := installDebian(ctx, "postgresql", installed)
	if err != nil {
		return "", fmt.Errorf("no PostgreSQL for this test: set TEST_DATABASE_URL, or install its server: no initdb and postgres in "+
			"pg_config --bindir, /usr/lib/postgresql/*/bin or on the PATH; Debian's package: %w", err)
	}
	return dir, nil
}

// installed returns the folder of the binaries that are on this machine, or "".
func installed(ctx context.Context) string {
	var candidates []string
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		candidates = append(candidates, strings.TrimSpace(string(out)))
	}
	versions, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is a good one, the only error there is
	slices.SortFunc(versions, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
	candidates = append(candidates, versions...)
	if postgres, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(postgres); err == nil {
			candidates = append(candidates, filepath.Dir(target))
		}
	}
	if i := slices.IndexFunc(candidates, hasServer); i >= 0 {
		return candidates[i]
	}
	return ""
}

// majorVersion reads the number in /usr/lib/postgresql/15/bin, 0 if there is none.
func majorVersion(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

func hasServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// installDebian installs a package of the distribution and returns what find
// finds then. Test binaries run in parallel: the first installs, the others wait
// and find what it installed.
func installDebian(ctx context.Context, name string, find func(context.Context) string) (string, error) {
	if os.Geteuid() != 0 {
		return "", errors.New("only root can install it")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", errors.New("this system has no apt-get")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	lock := flock.New(filepath.Join(os.TempDir(), "fraiseql-observer-testenv.lock"))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("wait for another test that installs it: %w", err)
	}
	defer func() { report(lock.Unlock()) }()
	if found := find(ctx); found != "" {
		return found, nil
	}
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", name}} {
		if err := aptGet(ctx, args...); err != nil {
			return "", err
		}
	}
	if found := find(ctx); found != "" {
		return found, nil
	}
	return "", fmt.Errorf("%s was installed and its server is not found", name)
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=300"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1") // no service of the package is started
	return run(cmd)
}

// run runs a command; the error has the end of what it said.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, tail(string(out)))
	}
	return nil
}
