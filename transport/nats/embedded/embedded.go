// Package embedded is a JetStream server inside the process. Unless it is told to
// listen nobody else can reach it. It is for trying things out, and for one
// process that wants nothing installed.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/fraiseql/observer"
)

// ErrInUse matches the error of a store directory that another server has. It may
// pass: that one may end.
var ErrInUse = errors.New("another process keeps its stream there; every process has a directory of its own, or all use one nats-server")

// Config says what a server keeps and where.
type Config struct {
	// StoreDir is where the streams are kept, by one server at a time. It is made
	// when it is not there. Required.
	StoreDir string
	// Token makes the server listen, on a free port of the loopback interface, to
	// whoever knows it. It listens nowhere when this is zero.
	Token observer.Secret
	// Logger receives what the server warns of; slog.Default() when nil.
	Logger *slog.Logger

	// lazy leaves it to the operating system when what was acknowledged is written
	// to the disk: for measuring what the default costs.
	lazy bool
}

// Server is a running server. Make one with [Start].
type Server struct {
	server *server.Server
	lock   *flock.Flock
}

// Start starts a server, and returns when it has read its store. Call
// [Server.Close] when done. An error that does not match [ErrInUse] is
// [observer.Permanent]: the directory cannot be used.
func Start(cfg Config) (*Server, error) {
	if cfg.StoreDir == "" {
		return nil, unusable(errors.New("the directory of the store is not named"))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	lock, err := reserve(cfg.StoreDir)
	if err != nil {
		return nil, err
	}
	log := &logger{to: cfg.Logger}
	s, err := server.NewServer(options(cfg))
	if err != nil {
		return nil, errors.Join(unusable(err), lock.Close())
	}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	if why := log.fatal.Load(); why != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errors.Join(unusable(fmt.Errorf("store %s: %s", cfg.StoreDir, *why)), lock.Close())
	}
	return &Server{server: s, lock: lock}, nil
}

func options(cfg Config) *server.Options {
	opts := &server.Options{
		ServerName: "fraiseql-observer", DontListen: true, NoSigs: true, DisableJetStreamBanner: true, JetStream: true, StoreDir: cfg.StoreDir,
		// What was acknowledged is on the disk: the machine may lose its power.
		SyncAlways: !cfg.lazy,
		// The stream is bounded by its own configuration, and what is free on the disk
		// at this moment says nothing about when it is full.
		JetStreamMaxStore: math.MaxInt64 / 2,
	}
	if !cfg.Token.IsZero() {
		opts.DontListen, opts.Host, opts.Port, opts.Authorization = false, "127.0.0.1", server.RANDOM_PORT, cfg.Token.Reveal()
	}
	return opts
}

// reserve takes a directory for one server. Two on the same files would damage
// them.
func reserve(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(fmt.Errorf("make the directory of the store: %w", err))
	}
	// The lock ends with the process, however that ends.
	lock := flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	taken, err := lock.TryLock()
	if err == nil && taken {
		return lock, nil
	}
	_ = lock.Close() // nothing is held
	if err != nil {
		return nil, unusable(fmt.Errorf("store %s cannot be written to: %w", dir, err))
	}
	return nil, fmt.Errorf("store %s is in use: %w", dir, ErrInUse)
}

func unusable(err error) error { return observer.Permanent(observer.ReasonPermanent, err) }

// InProcessConn is a connection to the server.
func (s *Server) InProcessConn() (net.Conn, error) { return s.server.InProcessConn() }

// URL is where a server listens that was given a token; the token is not in it.
func (s *Server) URL() string { return s.server.ClientURL() }

// Close ends the server. What it acknowledged is stored. Nothing of it runs
// afterwards.
func (s *Server) Close() error {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	return s.lock.Close()
}

// logger hands over what a person should know.
type logger struct {
	to *slog.Logger
	// fatal is why the server could not start.
	fatal atomic.Pointer[string]
}

func (l *logger) Noticef(format string, v ...any) {
	l.to.Debug("embedded NATS server", "notice", fmt.Sprintf(format, v...))
}
func (l *logger) Warnf(format string, v ...any) {
	l.to.Warn("embedded NATS server", "warning", fmt.Sprintf(format, v...))
}

func (l *logger) Errorf(format string, v ...any) {
	l.to.Error("embedded NATS server", "error", fmt.Sprintf(format, v...))
}

// Fatalf is what a server calls that cannot start.
func (l *logger) Fatalf(format string, v ...any) {
	why := fmt.Sprintf(format, v...)
	l.fatal.Store(&why)
}
func (*logger) Debugf(string, ...any) {}
func (*logger) Tracef(string, ...any) {}
