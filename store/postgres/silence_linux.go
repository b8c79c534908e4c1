package postgres

import (
	"syscall"
	"time"
)

// userTimeout is TCP_USER_TIMEOUT, which the package syscall does not name.
const userTimeout = 18

// limitSilence has the system end a connection when what was sent, or a probe, was
// not acknowledged for that long. Where it cannot, calls still have their timeouts.
func limitSilence(raw syscall.RawConn, limit time.Duration) error {
	return raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, int(limit.Milliseconds()))
	})
}
