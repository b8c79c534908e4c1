package nats_test

import (
	"net"
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// testServer is a NATS server of one test that can be stopped and started again
// on the same port, also with the store of another time.
type testServer struct {
	dir  string
	port int
	srv  *server.Server
}

func newServer(t *testing.T) *testServer {
	t.Helper()
	s := &testServer{dir: t.TempDir(), port: server.RANDOM_PORT}
	s.Start(t)
	t.Cleanup(func() { s.Stop(t) })
	return s
}

func (s *testServer) Start(t *testing.T) {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: s.port, JetStream: true, StoreDir: s.dir, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	addr, ok := srv.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("the NATS server listens on %v", srv.Addr())
	}
	s.srv, s.port = srv, addr.Port
}

func (s *testServer) URL() string { return s.srv.ClientURL() }

func (s *testServer) Stop(t *testing.T) {
	t.Helper()
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// Copy copies the store of a server that is stopped.
func (s *testServer) Copy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Restore puts a copy back.
func (s *testServer) Restore(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(s.dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
}
