package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	postgressource "github.com/fraiseql/observer/source/postgres"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// warmUps is how many statements a connection has behind it when the counting
// begins: the first ones are planned anew each, as of every application.
const warmUps = 20

// taxRound is how long each way of writing runs in a round.
const taxRound = 2 * time.Second

// BenchmarkWriteTax counts the transactions a second of applications that insert
// orders one by one, on a server that writes through to the disk: without a
// change log, with the log written by hand in the same statement, with capture,
// and with capture and a notification for every statement. A reader listens
// where there is a log. One operation is a round of all four.
func BenchmarkWriteTax(b *testing.B) {
	for _, clients := range []int{8, 32} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			server := testenv.PrivatePostgres(b, testenv.Options{Durable: true, Settings: map[string]string{"max_connections": "200"}})
			ways := writingWays(b, server)
			rates := make(map[string][]float64)
			for b.Loop() {
				for _, w := range ways {
					rates[w.name] = append(rates[w.name], w.rate(b, clients))
				}
			}
			reportTax(b, ways, rates)
		})
	}
}

func reportTax(b *testing.B, ways []way, rates map[string][]float64) {
	b.Helper()
	over := func(name, base string) []float64 {
		ratios := make([]float64, len(rates[name]))
		for i := range ratios {
			ratios[i] = rates[name][i] / rates[base][i]
		}
		return ratios
	}
	report(b, "capture/hand", over("capture", "hand"))
	report(b, "capture/notify", over("capture", "notify"))
	report(b, "capture/none", over("capture", "none"))
	for _, w := range ways {
		report(b, w.name+"-tx/s", rates[w.name])
	}
}

// way is one way of writing, in a database of its own.
type way struct {
	name, url, statement string
	listener             bool
}

func writingWays(b *testing.B, server *testenv.Postgres) []way {
	b.Helper()
	const plain = `INSERT INTO orders (customer, status, total) VALUES ($1, 'new', 19.99)`
	const byHand = `WITH o AS (` + plain + ` RETURNING *)
		INSERT INTO core.tb_entity_change_log (object_type, modification_type, entity_key, object_data)
		SELECT 'Order', 'INSERT', o.id::text, to_jsonb(o) FROM o`
	ways := []way{
		{name: "none", statement: plain},
		{name: "hand", statement: byHand, listener: true},
		{name: "capture", statement: plain, listener: true},
		{name: "notify", statement: plain, listener: true},
	}
	for i := range ways {
		w := &ways[i]
		w.url = server.Database(b)
		conn := testenv.Connect(b, w.url)
		testenv.Exec(b, conn, `CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer bigint, status text, total numeric)`)
		if w.listener {
			prepareLog(b, conn, w)
		}
	}
	return ways
}

func prepareLog(b *testing.B, conn *pgx.Conn, w *way) {
	b.Helper()
	if err := changelog.Migrate(b.Context(), w.url, changelog.Options{}); err != nil {
		b.Fatal(err)
	}
	switch w.name {
	case "hand": // nothing of ours fires
		testenv.Exec(b, conn, `ALTER TABLE core.tb_entity_change_log DISABLE TRIGGER USER`)
	case "capture", "notify":
		if _, err := capture.Add(b.Context(), w.url, capture.Capture{Table: "public.orders", Entity: "Order"}); err != nil {
			b.Fatal(err)
		}
	}
	if w.name == "notify" {
		testenv.Exec(b, conn, `ALTER TABLE core.tb_entity_change_log DISABLE TRIGGER USER;
			CREATE FUNCTION always() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('fraiseql_events', ''); RETURN NULL; END $$;
			CREATE TRIGGER always AFTER INSERT ON core.tb_entity_change_log FOR EACH STATEMENT EXECUTE FUNCTION always()`)
	}
}

// rate writes with n clients while a reader reads.
func (w *way) rate(b *testing.B, n int) float64 {
	b.Helper()
	if w.listener {
		defer w.read(b)()
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	conns := make([]*pgx.Conn, n)
	for i := range conns {
		conns[i] = testenv.Connect(b, w.url)
		defer func() { _ = conns[i].Close(b.Context()) }()
		for range warmUps {
			testenv.Exec(b, conns[i], w.statement, i)
		}
	}
	var committed atomic.Int64
	var writers sync.WaitGroup
	begin := time.Now()
	timer := time.AfterFunc(taxRound, cancel)
	defer timer.Stop()
	for i, conn := range conns {
		writers.Go(func() {
			for ctx.Err() == nil {
				if _, err := conn.Exec(b.Context(), w.statement, i); err != nil {
					b.Error(err)
					return
				}
				committed.Add(1)
			}
		})
	}
	writers.Wait()
	return float64(committed.Load()) / time.Since(begin).Seconds()
}

// read reads the log until the function it returns is called.
func (w *way) read(b *testing.B) (stop func()) {
	b.Helper()
	source := postgressource.New(postgressource.Config{Name: "shop", URL: observer.NewSecret(w.url)})
	head, err := source.Head(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	stream, err := source.Open(b.Context(), head)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if _, err := stream.Next(ctx); err != nil && ctx.Err() == nil {
				b.Error(err)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		if err := stream.Close(context.WithoutCancel(ctx)); err != nil {
			b.Log(err)
		}
	}
}
