//go:build unix

package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const canStartServers = true

// account is who runs a server: PostgreSQL refuses to run as root. The zero
// value is whoever runs the tests.
type account struct {
	credential *syscall.Credential
}

// serverAccount chooses an unprivileged account when the tests run as root.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return account{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
		}
	}
	return account{}, errors.New("PostgreSQL does not run as root, and this system has neither a user postgres nor a user nobody")
}

// own gives a file to the account.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Chown(path, int(a.credential.Uid), int(a.credential.Gid))
}

// run lets a command run as the account.
func (a account) run(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential}
}

// tempDir returns a directory for temporary files that the account can reach:
// the one of root may be in its home.
func (a account) tempDir() string {
	dir := os.TempDir()
	if a.credential == nil {
		return dir
	}
	for up := filepath.Clean(dir); ; up = filepath.Dir(up) {
		info, err := os.Stat(up)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return "/tmp"
		}
		if up == filepath.Dir(up) {
			return dir
		}
	}
}

// detach gives a command a session of its own: a signal to the tests and their
// terminal is none to it.
func detach(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
}

// process is a running server. All its processes hold the writing end of a
// pipe that nothing is written to: it reaches its end when the last of them is
// gone, so that waiting takes neither a goroutine nor a guess.
type process struct {
	name string // of the product, for messages
	cmd  *exec.Cmd
	life *os.File
}

// launch starts the server process.
func (c *cluster) launch(ctx context.Context) (*process, error) {
	w := c.workspace
	return spawn("PostgreSQL", w.command(ctx, filepath.Join(w.bin, "postgres"), "-D", c.data(), "-p", strconv.Itoa(c.port)), c.logFile())
}

// spawn starts a server whose output goes to the end of a log file.
func spawn(name string, cmd *exec.Cmd, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { report(log.Close()) }()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{write}
	detach(cmd)
	if err := errors.Join(cmd.Start(), write.Close()); err != nil {
		return nil, errors.Join(err, read.Close())
	}
	return &process{name: name, cmd: cmd, life: read}, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// gone waits for the end of all processes, and reports whether it came in time.
func (p *process) gone(within time.Duration) bool {
	if err := p.life.SetReadDeadline(time.Now().Add(within)); err != nil {
		return false
	}
	if _, err := p.life.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	_ = p.life.Close() // nothing was written to it
	_ = p.cmd.Wait()   // only reaps the process: kill may have done so, and how a server ended is in its log
	return true
}

// shutdown ends the server as `pg_ctl stop` does: it writes everything down.
func (p *process) shutdown() error { return p.end(syscall.SIGINT) }

// quit ends the server at once; the next start recovers from the log.
func (p *process) quit() error { return p.end(syscall.SIGQUIT) }

func (p *process) end(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if p.gone(patience) {
		return nil
	}
	return errors.Join(fmt.Errorf("%s did not end within %s of %s", p.name, patience, signal), p.kill())
}

// kill ends every process with SIGKILL: nothing is written, nothing tidied up.
// The first one is stopped before, or it would start new processes and tell its
// children to end.
func (p *process) kill() error {
	pid := p.pid()
	_ = p.pause() // one that is gone already needs none of this
	victims, err := children(pid)
	for _, victim := range append(victims, pid) {
		_ = syscall.Kill(victim, syscall.SIGKILL) // one that is gone already needs none
	}
	if !p.gone(patience) {
		err = errors.Join(err, fmt.Errorf("processes of %s survived SIGKILL", p.name))
	}
	return err
}

// pause stops the process with SIGSTOP and returns when it has stopped. One that
// has been stopped already must be resumed first: its stop is told only once.
func (p *process) pause() error {
	err := syscall.Kill(p.pid(), syscall.SIGSTOP)
	if err == nil {
		var status syscall.WaitStatus
		_, err = syscall.Wait4(p.pid(), &status, syscall.WUNTRACED, nil)
	}
	return err
}

// resume lets a stopped process go on.
func (p *process) resume() error { return syscall.Kill(p.pid(), syscall.SIGCONT) }

// children returns the processes that pid started.
func children(pid int) ([]int, error) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		out, err := exec.Command("ps", "-A", "-o", "pid=", "-o", "ppid=").Output() //nolint:noctx // ends at once
		return childrenIn(strings.Split(string(out), "\n"), pid), err
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	var pairs []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		// 4711 (name, in which anything may stand) S 42 ...
		text := string(content)
		if fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]); len(fields) > 1 {
			pairs = append(pairs, filepath.Base(filepath.Dir(file))+" "+fields[1])
		}
	}
	return childrenIn(pairs, pid), err
}

// childrenIn reads lines of a process id and its parent's.
func childrenIn(pairs []string, parent int) []int {
	var found []int
	for _, pair := range pairs {
		fields := strings.Fields(pair)
		if len(fields) != 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(fields[0]); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// killBackend ends the server process of one connection with SIGKILL.
func killBackend(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }

// dropMemory removes the System V memory that a killed server left, which it
// takes to see that no process of it is left. Some bytes: if it fails, it fails.
func dropMemory(id string) {
	_ = exec.Command("ipcrm", "-m", id).Run() //nolint:noctx // ends at once
}
