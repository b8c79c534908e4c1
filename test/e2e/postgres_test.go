//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
)

// arrived waits until every change arrived, and checks it.
func (s *site) arrived(shop *shop, recv *receiver) {
	s.t.Helper()
	eventually(s.t, "everything arrives", func() bool {
		return len(oracle{shop.all(), recv.receipts()}.outstanding()) == 0
	})
	oracle{shop.all(), recv.receipts()}.check(s.t)
}

// The server is killed and started again under a daemon that runs on.
func TestServerKilledAndStarted(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	recv := newReceiver(t, ok)
	s := &site{t: t, dir: t.TempDir(), on: onPostgres, server: server.Database(t)}
	s.begin(hook("all", recv.url()))
	shop := newShop(s)
	s.start()
	shop.put(1)
	s.arrived(shop, recv)
	server.Kill(t)
	eventually(t, "the loss is noticed", func() bool { return strings.Contains(s.log(), "source failed; opening it again") })
	server.Start(t)
	again := openShop(s)
	again.versions, again.committed = shop.versions, shop.committed
	again.put(2)
	s.arrived(again, recv)
	s.stop()
}

// start = "now" leaves out what was there, once: the place is kept, so that a
// restart leaves nothing out.
func TestStartNow(t *testing.T) {
	t.Parallel()
	onEach(t, startNow)
}

func startNow(t *testing.T, on flavour) {
	t.Helper()
	recv := newReceiver(t, ok)
	s := on.newSite(t, hook("all", recv.url()))
	s.more = "start = \"now\"\n"
	s.configure(hook("all", recv.url()))
	shop := newShop(s)
	shop.put(1)
	s.start()
	s.kill() // nothing has come that would have saved a checkpoint
	shop.put(2)
	s.start()
	shop.put(3)
	eventually(t, "both changes arrive", func() bool { return recv.count(accepted) == 2 })
	s.stop()
	var got []int64
	for _, r := range recv.receipts() {
		got = append(got, r.change.item)
	}
	if slices.Sort(got); !slices.Equal(got, []int64{2, 3}) {
		t.Errorf("the changes of %v came, want those of 2 and 3", got)
	}
}

// A role that may create nothing runs on a database that migrate prepared; on
// one that is not, it is told who has to do what.
func TestRoleWithoutRightsToCreate(t *testing.T) {
	t.Parallel()
	recv := newReceiver(t, ok)
	s := onPostgres.newSite(t, hook("all", recv.url()))
	shop := newShop(s)
	owner := s.server
	role := s.role(owner)
	s.configure(hook("all", recv.url()))
	if text, code := s.startFails(); code != 3 || !strings.Contains(text, "migrate") {
		t.Errorf("on a database without the tables of the state it ended with %d: %s", code, text)
	}
	if stdout, stderr, code := commandWith(t, s.dir, nil, "migrate", "--database", owner); code != 0 {
		t.Fatalf("migrate ended with %d: %s%s", code, stdout, stderr)
	}
	testenv.Exec(t, testenv.Connect(t, owner), fmt.Sprintf(`GRANT USAGE ON SCHEMA fraiseql_observer TO %[1]s;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fraiseql_observer TO %[1]s;
		GRANT USAGE ON ALL SEQUENCES IN SCHEMA fraiseql_observer TO %[1]s`, role))
	s.start()
	shop.put(1)
	s.arrived(shop, recv)
	s.stop()
}

// role makes one that may read and prune the log, and has the site use it.
func (s *site) role(owner string) string {
	s.t.Helper()
	u, err := url.Parse(owner)
	if err != nil {
		s.t.Fatal(err)
	}
	name := pgx.Identifier{strings.TrimPrefix(u.Path, "/") + "_reader"}.Sanitize()
	conn := testenv.Connect(s.t, owner)
	testenv.Exec(s.t, conn, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN PASSWORD 'hunter2-hunter2';
		GRANT USAGE ON SCHEMA core TO %[1]s;
		GRANT SELECT, DELETE ON core.tb_entity_change_log TO %[1]s;
		GRANT SELECT ON ALL SEQUENCES IN SCHEMA core TO %[1]s`, name))
	s.t.Cleanup(func() { // roles outlive databases
		if _, err := conn.Exec(context.WithoutCancel(s.t.Context()), "DROP OWNED BY "+name+"; DROP ROLE "+name); err != nil {
			s.t.Error(err)
		}
	})
	u.User = url.UserPassword(strings.Trim(name, `"`), "hunter2-hunter2")
	s.server = u.String()
	return name
}

// A login that is refused is one line, with code 3 and without the password, in
// every command.
func TestRefusedLogin(t *testing.T) {
	t.Parallel()
	s := onPostgres.newSite(t, hook("all", "http://127.0.0.1:1"))
	u, err := url.Parse(s.server)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), "hunter2-hunter2")
	s.server = u.String()
	s.configure(hook("all", "http://127.0.0.1:1"))
	for _, args := range [][]string{
		{"run"}, {"status"}, {"migrate"}, {"dlq", "list"}, {"dlq", "retry", "x"}, {"capture", "list"},
		{"capture", "add", "--table", "items", "--entity", "Item"}, {"capture", "add", "--all"}, {"capture", "remove", "--table", "items"},
	} {
		stdout, stderr, code := s.command(args...)
		if code != 3 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "password authentication failed") {
			t.Errorf("%q ended with %d: %s%s", args, code, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "hunter2") {
			t.Errorf("%q prints the password: %s%s", args, stdout, stderr)
		}
	}
	_, stderr, code := commandWith(t, s.dir, nil, "demo", "--database", s.server)
	if code != 3 || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "hunter2") {
		t.Errorf("demo ended with %d: %s", code, stderr)
	}
}
