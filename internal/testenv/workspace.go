package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// workspace is the temporary directory in which this process keeps its servers:
//
//	template/          what initdb made, copied for every server
//	server-*/data      the data directory of one
//	server-*/log       what it said
//	server-*/.s.PGSQL  its socket
//
// A watchdog ends the servers and removes the directory when this process is no
// more, however it ended.
type workspace struct {
	bin      string // the folder of the server binaries
	dir      string
	account  account // who runs the servers
	password string  // of the superuser postgres
	watchdog *watchdog
}

func newWorkspace(ctx context.Context, bin string) (*workspace, error) {
	who, err := serverAccount()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(who.tempDir(), "observer-pg-")
	if err != nil {
		return nil, fmt.Errorf("make a place for PostgreSQL: %w", err)
	}
	w := &workspace{bin: bin, dir: dir, account: who, password: rand.Text()}
	// From here on the watchdog removes the directory.
	if w.watchdog, err = watch(ctx, endServers, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := w.initialize(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make a PostgreSQL: %w", err), w.remove())
	}
	return w, nil
}

// endServers is what the watchdog of a workspace does. A server whose socket and
// files vanish while it ends does so all the same; the memory of one that was
// killed has to be removed by its number, which stands in the seventh line.
const endServers = `
for file in "$1"/*/data/postmaster.pid; do
	[ -f "$file" ] || continue
	kill -QUIT "$(head -n 1 "$file")" && sleep 0.1
	ipcrm -m "$(awk 'NR == 7 { print $2 }' "$file")"
done
for attempt in 1 2 3 4 5 6 7 8 9 10; do
	rm -rf "$1" && break
	sleep 0.3
done`

// initialize makes the template. What is written need not reach the disk.
func (w *workspace) initialize(ctx context.Context) error {
	secret := filepath.Join(w.dir, "password")
	if err := os.WriteFile(secret, []byte(w.password+"\n"), 0o600); err != nil {
		return err
	}
	if err := errors.Join(w.account.own(w.dir), w.account.own(secret)); err != nil {
		return err
	}
	return w.tool(ctx, "initdb", "--no-sync", "--pgdata", w.template(), "--username", "postgres", "--pwfile", secret,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale")
}

func (w *workspace) template() string { return filepath.Join(w.dir, "template") }

// tool runs one of PostgreSQL's programs to its end.
func (w *workspace) tool(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	return run(w.command(ctx, filepath.Join(w.bin, name), args...))
}

// command prepares a command as the account of the servers. Variables such as
// PGDATA and PGOPTIONS, which are meant for other servers, do not reach it.
func (w *workspace) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = w.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.WaitDelay = time.Second
	w.account.run(cmd)
	return cmd
}

// sharedServer starts the server that many tests use.
func (w *workspace) sharedServer(ctx context.Context) (*Postgres, error) {
	c, err := w.newCluster(ctx, Options{Settings: map[string]string{"max_connections": "300"}})
	if err != nil {
		return nil, err
	}
	return &Postgres{url: c.url(), cluster: c, keeps: true}, nil
}

// remove removes the directory. The servers in it must have ended.
func (w *workspace) remove() error {
	return errors.Join(os.RemoveAll(w.dir), w.watchdog.dismiss())
}

// watchdog is a shell that does something when this process is no more. It reads
// from a pipe whose other end only this process has, so that it learns of every
// end, SIGKILL included; and it is in a session of its own, so that what ends
// the process group of the tests does not end it too.
type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// watch starts a watchdog that runs a script with one argument, $1.
func watch(ctx context.Context, script, argument string) (*watchdog, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", "cat >/dev/null\n"+script, "watchdog", argument)
	cmd.Stdin = read
	detach(cmd)
	if err := errors.Join(cmd.Start(), read.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("start the watchdog: %w", err), write.Close())
	}
	return &watchdog{cmd: cmd, pipe: write}, nil
}

// dismiss lets the watchdog do what it is there for, and waits for it.
func (w *watchdog) dismiss() error {
	err := w.pipe.Close()
	// How the last command of the script ended says nothing.
	_ = w.cmd.Wait()
	return err
}
