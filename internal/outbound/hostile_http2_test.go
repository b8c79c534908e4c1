package outbound

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/tlstest"
)

// Frame types and flags of HTTP/2, and the header ":status: 200" in HPACK.
const (
	frameData, frameHeaders, frameReset, frameSettings   = 0, 1, 3, 4
	framePing, frameGoAway, frameWindow, frameContinuing = 6, 7, 8, 9

	endStream, endHeaders = 1, 4

	statusOK = "\x88"
)

func frame(kind, flags byte, stream uint32, payload string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
	head = append(head, kind, flags)
	return string(binary.BigEndian.AppendUint32(head, stream)) + payload
}

func number(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// rawHTTP2 serves HTTP/2 by hand: handle gets each connection with the number of
// the stream after the headers of a request were read.
func rawHTTP2(t *testing.T, a *tlstest.Authority, handle func(conn net.Conn, stream uint32)) string {
	t.Helper()
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{a.Issue("receiver.test", time.Hour, tlstest.Loopback())}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				// A flood keeps a connection from being idle, and so from being closed over there.
				defer context.AfterFunc(t.Context(), func() { _ = conn.Close() })()
				defer func() { _ = conn.Close() }()
				if stream, ok := requestOn(conn); ok {
					wg.Go(func() { _, _ = io.Copy(io.Discard, conn) })
					handle(conn, stream)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return "https://" + l.Addr().String()
}

// requestOn skips frames up to the headers of a request.
func requestOn(conn net.Conn) (stream uint32, ok bool) {
	if _, err := io.CopyN(io.Discard, conn, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return 0, false
	}
	if _, err := io.WriteString(conn, frame(frameSettings, 0, 0, "")); err != nil {
		return 0, false
	}
	head := make([]byte, 9)
	for {
		if _, err := io.ReadFull(conn, head); err != nil {
			return 0, false
		}
		length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			return 0, false
		}
		if head[3] == frameHeaders {
			return binary.BigEndian.Uint32(head[5:]), true
		}
	}
}

// hungUp waits until the other side ends the connection, whose reading another
// goroutine does: writing fails then.
func hungUp(conn net.Conn) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.WriteString(conn, frame(frameWindow, 0, 0, number(1))); err != nil {
			return
		}
	}
}

// http2Misbehaviour is what servers do to the stream of a request.
func http2Misbehaviour() map[string]func(conn net.Conn, stream uint32) {
	say := func(frames func(stream uint32) string) func(net.Conn, uint32) {
		return func(conn net.Conn, stream uint32) {
			_, _ = io.WriteString(conn, frames(stream))
			hungUp(conn)
		}
	}
	block := strings.Repeat("\x00\x01a\x7f\x81\x07"+strings.Repeat("x", 262), 50) // "a" with a long value, literally
	return map[string]func(net.Conn, uint32){
		"resets the stream": say(func(s uint32) string { return frame(frameReset, 0, s, number(2)) }),
		"goes away":         say(func(s uint32) string { return frame(frameGoAway, 0, 0, number(s)+number(2)) }),
		"hangs":             func(conn net.Conn, _ uint32) { hungUp(conn) },
		"no frames":         func(conn net.Conn, _ uint32) { forever(conn, strings.Repeat("x", 4096)) },
		"body first":        say(func(s uint32) string { return frame(frameData, 0, s, "body") }),
		"another stream":    say(func(s uint32) string { return frame(frameHeaders, endHeaders|endStream, s+2, statusOK) }),
		"half an answer": func(conn net.Conn, s uint32) {
			_, _ = io.WriteString(conn, frame(frameHeaders, 0, s, statusOK+"x")[:10])
		},
		"header flood": func(conn net.Conn, s uint32) {
			_, _ = io.WriteString(conn, frame(frameHeaders, 0, s, statusOK))
			forever(conn, frame(frameContinuing, 0, s, block))
		},
		"pings": func(conn net.Conn, _ uint32) { forever(conn, strings.Repeat(frame(framePing, 0, 0, "12345678"), 100)) },
		"settings": func(conn net.Conn, _ uint32) {
			forever(conn, strings.Repeat(frame(frameSettings, 0, 0, "\x00\x03\x00\x00\x00\x64"), 100))
		},
		"interim answers": func(conn net.Conn, s uint32) {
			forever(conn, frame(frameHeaders, endHeaders, s, "\x08\x03103")) // :status 103
		},
		"endless body": func(conn net.Conn, s uint32) {
			_, _ = io.WriteString(conn, frame(frameHeaders, endHeaders, s, statusOK))
			forever(conn, frame(frameData, 0, s, strings.Repeat("x", 16384)))
		},
	}
}
