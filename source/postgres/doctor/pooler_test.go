package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fraiseql/observer/source/postgres/doctor"
)

func TestPooler(t *testing.T) {
	t.Parallel()
	dsn, _ := newDatabase(t)
	good(t, examine(t, dsn, doctor.Options{}), "pooler")
	for mode, what := range map[bool]string{false: "a pooler stands between", true: "a pooler in transaction mode stands between"} {
		t.Run(fmt.Sprintf("shared %t", mode), func(t *testing.T) {
			t.Parallel()
			report := examine(t, newPooler(t, dsn, mode), doctor.Options{})
			expect(t, report, want{"pooler", doctor.Warning, what, "leads to the server itself"})
			good(t, report, "reader")
		})
	}
}

// pooler speaks for a server, as one with pool_mode = transaction and one
// connection does, or as one that gives every client a connection.
type pooler struct {
	dsn    string
	shared *upstream
	wg     sync.WaitGroup
}

type upstream struct {
	sync.Mutex

	*pgconn.HijackedConn
}

func newPooler(t *testing.T, dsn string, shared bool) string {
	t.Helper()
	p := &pooler{dsn: dsn}
	ctx, cancel := context.WithCancel(t.Context())
	if shared {
		var err error
		if p.shared, err = p.connect(ctx); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(ctx, client) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		p.wg.Wait()
		if p.shared != nil {
			_ = p.shared.Conn.Close()
		}
	})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = listener.Addr().String()
	u.RawQuery = "sslmode=disable"
	return u.String()
}

func (p *pooler) connect(ctx context.Context) (*upstream, error) {
	conn, err := pgconn.Connect(ctx, p.dsn)
	if err != nil {
		return nil, err
	}
	hijacked, err := conn.Hijack()
	return &upstream{HijackedConn: hijacked}, err
}

func (p *pooler) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	client := pgproto3.NewBackend(conn, conn)
	if _, err := client.ReceiveStartupMessage(); err != nil {
		return
	}
	server := p.shared
	if server == nil {
		var err error
		if server, err = p.connect(ctx); err != nil {
			return
		}
		defer func() { _ = server.Conn.Close() }()
	}
	client.Send(&pgproto3.AuthenticationOk{})
	for name, value := range server.ParameterStatuses {
		client.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	// A pooler has a key of its own.
	client.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for err := client.Flush(); err == nil; {
		err = server.transaction(client)
	}
}

var errGone = errors.New("the client is gone")

// transaction serves a client until no transaction is open.
func (u *upstream) transaction(client *pgproto3.Backend) error {
	msg, err := client.Receive()
	if err != nil {
		return err
	}
	u.Lock()
	defer u.Unlock()
	for {
		if _, ok := msg.(*pgproto3.Terminate); ok {
			return errGone
		}
		u.Frontend.Send(msg)
		switch msg.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			if done, err := u.answer(client); done || err != nil {
				return err
			}
		}
		if msg, err = client.Receive(); err != nil {
			return err
		}
	}
}

// answer hands on what the server says to one query.
func (u *upstream) answer(client *pgproto3.Backend) (done bool, err error) {
	if err := u.Frontend.Flush(); err != nil {
		return false, err
	}
	for {
		msg, err := u.Frontend.Receive()
		if err != nil {
			return false, err
		}
		client.Send(msg)
		if ready, ok := msg.(*pgproto3.ReadyForQuery); ok {
			return ready.TxStatus == 'I', client.Flush()
		}
	}
}
