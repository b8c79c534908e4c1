//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

// itemsOfEach keeps the items of several databases apart: those of database n
// begin at n times as many.
const itemsOfEach = 1000

// also adds a database of the application to the configuration of s, and gives
// the site that it is on. It is to be configured afterwards.
func (s *site) also(name string, on flavour, server, more string) *site {
	s.t.Helper()
	d := &site{t: s.t, dir: s.t.TempDir(), on: on, server: server}
	s.more += fmt.Sprintf("[[databases]]\nname = %q\nurl = %q\n%s", name, d.databaseURL(), more)
	return d
}

// changesOf are what was committed to several databases.
func changesOf(shops []*shop) (all []change) {
	for _, shop := range shops {
		all = append(all, shop.all()...)
	}
	return all
}

// everywhere commits a change to each of the databases, and waits until all have
// arrived.
func everywhere(t *testing.T, shops []*shop, recv *receiver) {
	t.Helper()
	for n, shop := range shops {
		shop.put(int64(itemsOfEach*n + 1 + len(shop.all())%7))
	}
	arrivedFrom(t, shops, recv)
}

func arrivedFrom(t *testing.T, shops []*shop, recv *receiver) {
	t.Helper()
	eventually(t, "everything arrives", func() bool {
		return len(oracle{changesOf(shops), recv.receipts()}.outstanding()) == 0
	})
	oracle{changesOf(shops), recv.receipts()}.check(t)
}

// TestDatabasesAreSpread has two daemons share three databases. When one of them
// is killed the other reads all, and when it is back it gets its share.
func TestDatabasesAreSpread(t *testing.T) {
	t.Parallel()
	onEach(t, databasesAreSpread)
}

func databasesAreSpread(t *testing.T, on flavour) {
	t.Helper()
	recv := newReceiver(t, ok)
	s := on.newSite(t, "")
	var sites []*site
	for _, name := range []string{"two", "three"} {
		sites = append(sites, s.also(name, onSQLite, "", ""))
	}
	s.configure(tagged(recv.url()))
	shops := []*shop{newShop(s)}
	for _, d := range sites {
		shops = append(shops, newShop(d))
	}
	first := s.join()
	s.spread(map[*peer][]int{first: {3}})
	everywhere(t, shops, recv)

	second := s.join()
	s.spread(map[*peer][]int{first: {1, 2}, second: {1, 2}})
	for range 3 {
		everywhere(t, shops, recv)
	}
	if first.logged("lease given back", "other members are to have it") == 0 {
		t.Error("the first one does not say why it gave a database back")
	}
	if list := (oracle{receipts: recv.receipts()}).repetitions(); len(list) > 0 {
		t.Errorf("sharing repeated %d deliveries", len(list))
	}
	first.crash()
	everywhere(t, shops, recv)
	s.spread(map[*peer][]int{second: {3}})

	third := s.join()
	s.spread(map[*peer][]int{second: {1, 2}, third: {1, 2}})
	before := recv.count(func(r receipt) bool { return r.run == third.run })
	everywhere(t, shops, recv)
	if n := recv.count(func(r receipt) bool { return r.run == third.run }); n == before {
		t.Error("the one that came back delivers nothing")
	}
}

// TestOneDatabaseIsDown starts daemons while the server of one of two databases
// is down. The other database is read without a break, and the one that was away
// once it is back.
func TestOneDatabaseIsDown(t *testing.T) {
	t.Parallel()
	for start, daemons := range map[string]int{"": 1, "start = \"now\"\n": 2} {
		t.Run(fmt.Sprintf("%d daemons%s", daemons, strings.TrimSpace(start)), func(t *testing.T) {
			t.Parallel()
			oneDatabaseIsDown(t, start, daemons)
		})
	}
}

func oneDatabaseIsDown(t *testing.T, start string, daemons int) {
	t.Helper()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	recv := newReceiver(t, ok)
	s := onSQLite.newSite(t, "")
	away := s.also("away", onPostgres, server.Database(t), start)
	s.configure(tagged(recv.url()))
	up := newShop(s)
	before := newShop(away) // its connection ends with the server
	server.Kill(t)
	var peers []*peer
	for range daemons {
		peers = append(peers, s.join())
	}
	eventually(t, "the database that is there is read", func() bool { return s.readers()[sourceName].Holder != "" })
	reader := s.readers()[sourceName]
	for range 20 {
		up.put(1)
		s.arrived(up, recv)
	}
	server.Start(t)
	back := openShop(away)
	back.versions = before.versions
	eventually(t, "the database is read that was away", func() bool {
		return start == "" || s.hasCheckpoint("away")
	})
	back.put(itemsOfEach)
	up.put(2)
	arrivedFrom(t, []*shop{up, back}, recv)
	if now := s.readers()[sourceName]; now.Term != reader.Term {
		t.Errorf("the database that was there went from %+v to %+v", reader, now)
	}
	for _, p := range peers {
		p.leave()
		p.left()
	}
	if list := (oracle{receipts: recv.receipts()}).repetitions(); len(list) > 0 {
		t.Errorf("%d deliveries were repeated", len(list))
	}
}

func (s *site) hasCheckpoint(name string) (has bool) {
	s.t.Helper()
	s.store(func(store observer.StateStore) {
		_, err := store.LoadCheckpoint(s.t.Context(), name)
		if has = err == nil; err != nil && !errors.Is(err, observer.ErrNotFound) {
			s.t.Fatal(err)
		}
	})
	return has
}
