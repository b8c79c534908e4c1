package testenv

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// NATS returns the URL of a NATS server with JetStream, which this test alone
// uses. It runs in the process of the test, on a free loopback port, and is gone
// when the test ends. A test that kills, pauses or configures its server takes
// [PrivateNATS].
func NATS(t testing.TB) string {
	t.Helper()
	// What is free on the disk at this moment says nothing about a test.
	return natsServer(t, server.Options{JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 100 << 30})
}

// PlainNATS is [NATS] without JetStream.
func PlainNATS(t testing.TB) string {
	t.Helper()
	return natsServer(t, server.Options{})
}

func natsServer(t testing.TB, opts server.Options) string {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(&opts)
	if err != nil {
		t.Fatalf("make a NATS server: %v", err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	return s.ClientURL()
}
