//go:build unix

package testenv_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestBinariesFromTheFolderGiven(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TEST_POSTGRES_BIN", dir)
	write(t, filepath.Join(dir, "initdb"), "")
	if got, err := testenv.FindBinaries(t.Context()); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("without postgres: %q, %v", got, err)
	}
	write(t, filepath.Join(dir, "postgres"), "")
	if got, err := testenv.FindBinaries(t.Context()); err != nil || got != dir {
		t.Errorf("%q, %v; want %q", got, err, dir)
	}
}

func TestBinariesThatPgConfigNames(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TEST_POSTGRES_BIN", "")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, name := range []string{"initdb", "postgres"} {
		write(t, filepath.Join(dir, name), "")
	}
	write(t, filepath.Join(dir, "pg_config"), `[ "$1" = --bindir ] && echo `+dir)
	if got, err := testenv.FindBinaries(t.Context()); err != nil || got != dir {
		t.Errorf("%q, %v; want %q", got, err, dir)
	}
}

// TestContainer has a docker that publishes a server of this machine: what is
// tested is how a container is asked for, found and removed.
func TestContainer(t *testing.T) {
	server := testenv.PrivatePostgres(t, testenv.Options{})
	bin, err := testenv.FindBinaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(filepath.Join(bin, "psql")); err != nil {
		t.Skip("the client program psql is not installed")
	}
	config, err := pgx.ParseConfig(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	write(t, filepath.Join(dir, "docker"), `
echo "$@" >>'`+calls+`'
case "$1" in
run)
	for word; do
		case "$word" in POSTGRES_PASSWORD=*) password="${word#*=}";; esac
	done
	'`+filepath.Join(bin, "psql")+`' '`+server.URL()+`' -qc "ALTER ROLE postgres PASSWORD '$password'" ;;
port) echo 127.0.0.1:`+strconv.Itoa(int(config.Port))+` ;;
esac`)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	url, remove, err := testenv.RunContainer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := testenv.Connect(t, url)
	if testenv.Value[int](t, conn, "SELECT 1") != 1 {
		t.Error("the server does not answer")
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	name := word(t, string(content), "--name")
	if want := "rm --force --volumes " + name + "\n"; !strings.HasSuffix(string(content), want) {
		t.Errorf("calls:\n%swant the last to be %s", content, want)
	}
}

func TestContainerWithoutDocker(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "docker"), "echo Cannot connect to the daemon >&2; exit 1")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if _, _, err := testenv.RunContainer(t.Context()); err == nil || !strings.Contains(err.Error(), "Cannot connect to the daemon") {
		t.Errorf("error %v, want what docker said", err)
	}
}

// write writes a shell script.
func write(t *testing.T, path, script string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// word returns the word that follows another one.
func word(t *testing.T, text, after string) string {
	t.Helper()
	fields := strings.Fields(text)
	for i, field := range fields[:len(fields)-1] {
		if field == after {
			return fields[i+1]
		}
	}
	t.Fatalf("no %s in %s", after, text)
	return ""
}
