package testenv

import (
	"net"
	"syscall"
)

// dropPackets has the system drop what arrives for a connection, as if it had been
// lost on the way.
func dropPackets(conn net.Conn) error {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var attached error
	err = raw.Control(func(fd uintptr) {
		nothing := []syscall.SockFilter{{Code: syscall.BPF_RET | syscall.BPF_K}}
		attached = syscall.AttachLsf(int(fd), nothing) //nolint:staticcheck // the package that has it instead is no dependency
	})
	if err != nil {
		return err
	}
	return attached
}
