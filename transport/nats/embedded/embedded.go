// Package embedded is a NATS server with JetStream inside the process, for trying
// things out: it listens nowhere, and only its own process can connect to it.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Server is a running server. It is made with [Start] and safe for concurrent
// use.
type Server struct {
	server *server.Server
}

// startTime bounds the start: what is stored is read then.
const startTime = time.Minute

// Start starts a server that keeps its streams in a directory, which it makes,
// and which no other server may use at the same time.
func Start(dir string) (*Server, error) {
	if dir == "" {
		return nil, errors.New("embedded NATS: a directory for its streams is required")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "embedded", DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	s.Start()
	e := &Server{server: s}
	if !s.ReadyForConnections(startTime) {
		return nil, errors.Join(fmt.Errorf("embedded NATS in %s: not ready within %s", dir, startTime), e.Close())
	}
	if !s.JetStreamEnabled() {
		return nil, errors.Join(fmt.Errorf("embedded NATS in %s: JetStream does not start (is the directory writable, and is there room?)", dir), e.Close())
	}
	return e, nil
}

// InProcessConn connects to the server.
func (e *Server) InProcessConn() (net.Conn, error) { return e.server.InProcessConn() }

// Close ends the server and returns when everything is written. Connections to
// it should be closed before.
func (e *Server) Close() error {
	e.server.Shutdown()
	e.server.WaitForShutdown()
	return nil
}
