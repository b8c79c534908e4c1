//go:build !unix

package testenv

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"time"
)

// canStartServers is false here, so nothing of the rest is ever called: it is
// what the other files need to be compiled.
const canStartServers = false

var errNotHere = errors.New("servers are started on Unix systems only")

type account struct{}

func serverAccount() (account, error) { return account{}, errNotHere }
func (account) own(string) error      { return errNotHere }
func (account) run(*exec.Cmd)         {}
func (account) tempDir() string       { return os.TempDir() }
func detach(*exec.Cmd)                {}
func killBackend(int) error           { return errNotHere }
func dropMemory(string)               {}

type process struct{}

func spawn(string, *exec.Cmd, string) (*process, error) { return nil, errNotHere }

func (*cluster) launch(context.Context) (*process, error) { return nil, errNotHere }
func (*process) pid() int                                 { return 0 }
func (*process) gone(time.Duration) bool                  { return true }
func (*process) shutdown() error                          { return errNotHere }
func (*process) quit() error                              { return errNotHere }
func (*process) pause() error                             { return errNotHere }
func (*process) resume() error                            { return errNotHere }
func (*process) kill() error                              { return errNotHere }
