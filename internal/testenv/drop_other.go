//go:build !linux

package testenv

import (
	"errors"
	"net"
)

func dropPackets(net.Conn) error { return errors.ErrUnsupported }
