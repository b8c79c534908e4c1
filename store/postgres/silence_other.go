//go:build !linux

package postgres

import (
	"syscall"
	"time"
)

// limitSilence leaves it to the probes, which end connections that are silent while
// nothing is sent.
func limitSilence(syscall.RawConn, time.Duration) error { return nil }
