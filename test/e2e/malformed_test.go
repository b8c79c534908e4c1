//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/sqlite"
)

// broken is a kind of row that an application can write into the change log by
// hand and that is no event.
type broken struct {
	name   string
	values string // of id, object_type, modification_type, created_at, object_id, object_data
	reason string // what the dead letter says, in part
	raw    string // what must be kept of the row
	repair string // what makes an event of it
}

func brokenRows() []broken {
	good := `id = coalesce(nullif(id, ''), 'repaired-' || pk_entity_change_log)`
	return []broken{
		{"null id", `NULL, 'Item', 'INSERT', '2026-01-01T00:00:00Z', '101', '{"version":101}'`, "id is NULL", `"object_id":"101"`, good},
		{"empty id", `'', 'Item', 'INSERT', '2026-01-01T00:00:00Z', '102', '{"version":102}'`, "id is empty", `"object_id":"102"`, good},
		{"null entity", `'e-103', NULL, 'INSERT', '2026-01-01T00:00:00Z', '103', '{"version":103}'`, "object_type is NULL", `"object_type":null`, `object_type = 'Item'`},
		{"null entity id", `'e-104', 'Item', 'INSERT', '2026-01-01T00:00:00Z', NULL, '{"version":104}'`, "object_id is NULL", `"object_id":null`, `object_id = '104'`},
		{"unknown verb", `'e-105', 'Item', 'UPSERT', '2026-01-01T00:00:00Z', '105', '{"version":105}'`, "UPSERT", `"modification_type":"UPSERT"`, `modification_type = 'INSERT'`},
		{"null verb", `'e-106', 'Item', NULL, '2026-01-01T00:00:00Z', '106', '{"version":106}'`, "modification_type is NULL", `"modification_type":null`, `modification_type = 'INSERT'`},
		{"no JSON", `'e-107', 'Item', 'INSERT', '2026-01-01T00:00:00Z', '107', '{"version":107'`, "object_data is not JSON", `{\"version\":107`, `object_data = '{"version":107}'`},
		{"NaN", `'e-108', 'Item', 'INSERT', '2026-01-01T00:00:00Z', '108', '{"version":108,"x":NaN}'`, "object_data is not JSON", `NaN`, `object_data = '{"version":108}'`},
		{"blob", `'e-109', 'Item', 'INSERT', '2026-01-01T00:00:00Z', '109', x'00ff10'`, "object_data is a blob", `00ff10`, `object_data = '{"version":109}'`},
		{"no time", `'e-110', 'Item', 'INSERT', 'yesterday', '110', '{"version":110}'`, "created_at is not a time", `yesterday`, `created_at = '2026-01-01'`},
	}
}

// newLooseShop has a change log that somebody else made, without the
// constraints of ours, so that every kind of nonsense fits in.
func newLooseShop(s *site) *shop {
	s.t.Helper()
	if err := os.WriteFile(s.database(), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	shop := openShop(s)
	shop.exec(`CREATE TABLE tb_entity_change_log (pk_entity_change_log INTEGER PRIMARY KEY AUTOINCREMENT,
		id TEXT, object_type TEXT, modification_type TEXT, created_at TEXT, object_id TEXT, object_data, object_data_before)`)
	shop.exec(items)
	if _, err := sqlite.AddCapture(s.t.Context(), s.database(), sqlite.Capture{Table: "items", Entity: "Item"}); err != nil {
		s.t.Fatal(err)
	}
	return shop
}

// TestInvariant10NonsenseIsKept writes a row of each kind between good ones.
// Every one is kept with its raw content and a reason, the good ones flow, and
// a repaired one is delivered by a retry.
func TestInvariant10NonsenseIsKept(t *testing.T) {
	t.Parallel()
	recv := newReceiver(t, ok)
	s := newSite(t, hook("all", recv.url()))
	shop := newLooseShop(s)
	rows := brokenRows()
	s.start()
	for i, row := range rows {
		shop.put(int64(i + 1))
		shop.exec(`INSERT INTO tb_entity_change_log (id, object_type, modification_type, created_at, object_id, object_data) VALUES (` + row.values + `)`)
		shop.put(int64(i + 1))
	}
	eventually(t, "the good rows arrive and the others are kept", func() bool {
		return len(oracle{shop.all(), recv.receipts()}.outstanding()) == 0 && len(s.stored(observer.Dead)) == len(rows)
	})
	oracle{shop.all(), recv.receipts()}.check(t)

	letters := s.stored(observer.Dead)
	for i, row := range rows {
		d := find(letters, row)
		if d == nil {
			t.Fatalf("%s: no dead letter says %q and keeps %q", row.name, row.reason, row.raw)
		}
		if i == 0 {
			s.retryInVain(row, d.Key)
		}
		id, _, _ := strings.Cut(row.values, ",")
		shop.exec(fmt.Sprintf(`UPDATE tb_entity_change_log SET %s WHERE id IS %s`, row.repair, id))
		if i == 0 {
			s.succeeds("dlq", "retry", d.Key)
		}
	}
	s.succeeds("dlq", "retry-all")
	if left := s.left(); len(left) > 0 {
		t.Errorf("%d deliveries are left in the store, the first: %+v", len(left), left[0])
	}
	for i := range rows {
		version := int64(101 + i)
		if n := recv.count(func(r receipt) bool { return r.change.item == version && accepted(r) }); n != 1 {
			t.Errorf("%s: the repaired row was delivered %d times, want once", rows[i].name, n)
		}
	}
	s.stop()
}

func find(letters []*observer.Delivery, row broken) *observer.Delivery {
	for _, d := range letters {
		if d.Malformed != nil && d.Reason == observer.ReasonMalformed &&
			strings.Contains(d.Error, row.reason) && strings.Contains(string(d.Malformed.Raw), row.raw) {
			return d
		}
	}
	return nil
}

// retryInVain retries a row that is still broken: it stays, and is shown.
func (s *site) retryInVain(row broken, key string) {
	s.t.Helper()
	if _, _, code := s.command("dlq", "retry", key); code == 0 {
		s.t.Errorf("%s: the retry of a row that is still broken ended with 0", row.name)
	}
	shown, _, code := s.command("dlq", "show", key, "--format", "json")
	if code != 0 || !strings.Contains(shown, row.reason) {
		s.t.Errorf("%s: dlq show ended with %d and says %s", row.name, code, shown)
	}
}

func (s *site) succeeds(args ...string) {
	s.t.Helper()
	if stdout, stderr, code := s.command(args...); code != 0 {
		s.t.Errorf("%v ended with %d: %s%s", args, code, stdout, stderr)
	}
}

// TestInvariant10NonsenseBlocksNoCheckpoint restarts after nonsense: it is
// neither read again nor in the way.
func TestInvariant10NonsenseBlocksNoCheckpoint(t *testing.T) {
	t.Parallel()
	recv := newReceiver(t, func(receipt) int { return http.StatusOK })
	s := newSite(t, hook("all", recv.url()))
	shop := newShop(s)
	shop.exec(`INSERT INTO tb_entity_change_log (object_type, modification_type, object_id, object_data) VALUES ('Item', 'PATCH', '1', '{}')`)
	shop.put(1)
	s.start()
	eventually(t, "the checkpoint passes both", func() bool { return s.behind(s.checkpoint().Position) == 0 })
	s.kill()
	s.start()
	shop.put(2)
	eventually(t, "the second arrives", func() bool { return recv.count(accepted) == 2 })
	s.stop()
	if list := s.stored(""); len(list) != 1 || len(recv.receipts()) != 2 {
		t.Errorf("%d stored and %d requests, want 1 and 2", len(list), len(recv.receipts()))
	}
}
