// Package embedded is a JetStream server inside the process, which nobody else
// can reach: it listens nowhere. It is for trying things out, and for one process
// that wants nothing installed.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says what a server keeps and where.
type Config struct {
	// StoreDir is where the streams are kept, by one server at a time. It is made
	// when it is not there. Required.
	StoreDir string
	// Logger receives what the server warns of; slog.Default() when nil.
	Logger *slog.Logger
}

// Server is a running server. Make one with [Start].
type Server struct{ server *server.Server }

// startTime is how long a server may take to read its store.
const startTime = 30 * time.Second

// Start starts a server. Call [Server.Close] when done.
func Start(cfg Config) (*Server, error) {
	if cfg.StoreDir == "" {
		return nil, errors.New("the directory of the store is not named")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "fraiseql-observer", DontListen: true, NoSigs: true, JetStream: true, StoreDir: cfg.StoreDir,
		// What was acknowledged is on the disk: the process may be killed.
		SyncAlways: true,
	})
	if err != nil {
		return nil, err
	}
	s.SetLoggerV2(logger{cfg.Logger}, false, false, false)
	go s.Start()
	if !s.ReadyForConnections(startTime) {
		s.Shutdown()
		return nil, fmt.Errorf("it does not serve its store in %s within %s; is another process using it?", cfg.StoreDir, startTime)
	}
	return &Server{server: s}, nil
}

// InProcessConn is a connection to the server.
func (s *Server) InProcessConn() (net.Conn, error) { return s.server.InProcessConn() }

// Close ends the server. What it acknowledged is stored.
func (s *Server) Close() error {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	return nil
}

// logger hands over what a person should know.
type logger struct{ to *slog.Logger }

func (l logger) Noticef(format string, v ...any) {
	l.to.Debug("embedded NATS server", "notice", fmt.Sprintf(format, v...))
}
func (l logger) Warnf(format string, v ...any) {
	l.to.Warn("embedded NATS server", "warning", fmt.Sprintf(format, v...))
}

func (l logger) Fatalf(format string, v ...any) {
	l.to.Error("embedded NATS server", "error", fmt.Sprintf(format, v...))
}

func (l logger) Errorf(format string, v ...any) {
	l.to.Error("embedded NATS server", "error", fmt.Sprintf(format, v...))
}
func (logger) Debugf(string, ...any) {}
func (logger) Tracef(string, ...any) {}
