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

type postmaster struct{}

func (*cluster) launch(context.Context) (*postmaster, error) { return nil, errNotHere }
func (*postmaster) pid() int                                 { return 0 }
func (*postmaster) gone(time.Duration) bool                  { return true }
func (*postmaster) shutdown() error                          { return errNotHere }
func (*postmaster) quit() error                              { return errNotHere }
func (*postmaster) kill() error                              { return errNotHere }
