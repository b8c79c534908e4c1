package sqlite_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/sqlite"
)

// looseLog is a log whose columns take anything, as a table made by hand may.
func looseLog(t testing.TB) *database {
	t.Helper()
	d := newDatabase(t, `CREATE TABLE tb_entity_change_log (pk_entity_change_log INTEGER PRIMARY KEY AUTOINCREMENT,
		id, object_type DEFAULT 'E', modification_type DEFAULT 'INSERT', created_at DATETIME DEFAULT '2026-01-02 03:04:05',
		object_id DEFAULT 'k', object_data DEFAULT '{"a":1}', object_data_before,
		tenant_id, fk_contact, seq, duration_ms BOOLEAN, actor_type, acting_for, schema_version, extra_metadata, "own column" DEFAULT 'mine')`)
	if err := sqlite.Migrate(t.Context(), d.path); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMalformedRows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, columns, values, reason string }{
		{"NULL id", "id", "NULL", "id is NULL"},
		{"empty id", "id", "''", "id is empty"},
		{"blob id", "id", "x'00'", "id is a blob"},
		{"id in invalid UTF-8", "id", "CAST(x'ff' AS TEXT)", "id is not valid UTF-8"},
		{"reserved id", "id", "'malformed:shop:1'", "reserved"},
		{"unknown verb", "id, modification_type", "'i', 'UPSERT'", `unknown modification type "UPSERT"`},
		{"verb in lower case", "id, modification_type", "'i', 'insert'", `unknown modification type "insert"`},
		{"NULL verb", "id, modification_type", "'i', NULL", "modification_type is NULL"},
		{"NULL entity", "id, object_type", "'i', NULL", "object_type is NULL"},
		{"NULL entity id on INSERT", "id, object_id", "'i', NULL", "object_id is NULL on INSERT"},
		{"NULL entity id on UPDATE", "id, modification_type, object_id", "'i', 'UPDATE', NULL", "object_id is NULL on UPDATE"},
		{"NULL entity id on DELETE", "id, modification_type, object_id", "'i', 'DELETE', NULL", "object_id is NULL on DELETE"},
		{"broken JSON", "id, object_data", `'i', '{"a":'`, "object_data is not JSON: unexpected end"},
		{"NaN", "id, object_data", `'i', '{"a":NaN}'`, "object_data is not JSON: invalid character 'N'"},
		{"two JSON values", "id, object_data", `'i', '{} {}'`, "object_data is not JSON"},
		{"empty JSON", "id, object_data", `'i', ''`, "object_data is not JSON"},
		{"blob for JSON", "id, object_data", `'i', jsonb('{}')`, "object_data is a blob"},
		{"number for JSON", "id, object_data", `'i', 9e999`, "object_data is a number, not JSON text: \"+Inf\""},
		{"broken before-image", "id, modification_type, object_data_before", `'i', 'UPDATE', '{'`, "object_data_before is not JSON"},
		{"no time", "id, created_at", "'i', NULL", "created_at is NULL"},
		{"unreadable time", "id, created_at", "'i', 'yesterday'", `created_at is not a time: "yesterday"`},
		{"time as a number", "id, created_at", "'i', 1767323045", "created_at is not a time in text form: 1767323045"},
		{"time out of range", "id, created_at", "'i', '0000-01-01'", "created_at is out of range"},
		{"broken number", "id, duration_ms", "'i', 'long'", `duration_ms is not an integer: "long"`},
		{"broken sequence", "id, seq", "'i', 1.5", "seq is not an integer: 1.5"},
		{"blob for a tenant", "id, tenant_id", "'i', x'00'", "tenant_id is a blob"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := looseLog(t)
			d.must(t, "INSERT INTO tb_entity_change_log (id) VALUES ('before')")
			d.must(t, "INSERT INTO tb_entity_change_log ("+tt.columns+") VALUES ("+tt.values+")")
			d.must(t, "INSERT INTO tb_entity_change_log (id) VALUES ('after')")
			got := d.all(t)
			if got[0].Event == nil || got[2].Event == nil {
				t.Fatalf("the rows beside it: %+v", got)
			}
			m := got[1].Malformed
			if m == nil {
				t.Fatalf("taken for an event: %+v", facts(got[1].Event))
			}
			if !strings.Contains(m.Reason, tt.reason) {
				t.Errorf("reason %q, want %q", m.Reason, tt.reason)
			}
			if known := strings.HasPrefix(tt.columns, "id,"); known != (m.ID == "i") || !known && !strings.HasPrefix(m.ID, "malformed:shop:2:") {
				t.Errorf("id %q", m.ID)
			}
			var raw map[string]any
			if err := json.Unmarshal(m.Raw, &raw); err != nil || raw["own column"] != "mine" || raw["pk_entity_change_log"] != 2.0 {
				t.Errorf("raw %s, %v", m.Raw, err)
			}
		})
	}
}

func TestRawShowsTheRow(t *testing.T) {
	t.Parallel()
	d := looseLog(t)
	d.must(t, `INSERT INTO tb_entity_change_log (object_data, object_data_before, seq, duration_ms, tenant_id, object_id)
		VALUES (x'00ff', CAST(x'61ff' AS TEXT), 9e999, 9223372036854775807, '<é"😀>', 0.1)`)
	want := `{"pk_entity_change_log":1,"id":null,"object_type":"E","modification_type":"INSERT","created_at":"2026-01-02 03:04:05",` +
		`"object_id":0.1,"object_data":"\\x00ff","object_data_before":"\\x61ff","tenant_id":"\u003cé\"😀\u003e","fk_contact":null,` +
		`"seq":"+Inf","duration_ms":9223372036854775807,"actor_type":null,"acting_for":null,"schema_version":null,"extra_metadata":null,"own column":"mine","trace_context":null}`
	m := d.all(t)[0].Malformed
	if diff := cmp.Diff(want, string(m.Raw)); diff != "" {
		t.Errorf("raw (-want +got):\n%s", diff)
	}
	if m.EntityType != "E" || m.EntityID != "0.1" {
		t.Errorf("entity %q %q", m.EntityType, m.EntityID)
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.must(t, `INSERT INTO tb_entity_change_log (id, object_type, modification_type, created_at, object_id, object_data, object_data_before,
		tenant_id, fk_contact, seq, duration_ms, actor_type, acting_for, schema_version, extra_metadata) VALUES
		('1', 'E', 'UPDATE', '2026-01-02T03:04:05.678+02:00', 7, '{"a":1.10}', '{"a":1}', 'acme', 42, 9007199254740993, '12', 'human_user', 'u', '3',
		 '{"cdc_source": "app", "x": 1}'),
		('2', 'E', 'NOOP', '2026-01-02', NULL, 'null', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'not JSON'),
		('3', 'E', 'DELETE', '2026-01-02 03:04', '', NULL, '{"a":1}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`)
	d.must(t, `UPDATE tb_entity_change_log SET trace_context = iif(id = '1', '{"traceparent": "00-a-b-01", "tracestate": "c=1"}', iif(id = '2', '[', NULL))`)
	got := d.all(t)
	for i, want := range []string{"00-a-b-01 c=1", " ", " "} {
		if e := got[i].Event; e.TraceParent+" "+e.TraceState != want {
			t.Errorf("event %d has the trace context %q %q, want %q", i+1, e.TraceParent, e.TraceState, want)
		}
	}
	for i, want := range []string{
		`{"id":"1","event_type":"UPDATE","entity_type":"E","entity_id":"7","data":{"a":1.10},"changes":{"a":{"old":1,"new":1.10}},"user_id":"42","tenant_id":"acme",` +
			`"timestamp":"2026-01-02T01:04:05.678Z","duration_ms":12,"seq":9007199254740993,"actor_type":"human_user","acting_for":"u","schema_version":"3","cdc_source":"app"}`,
		`{"id":"2","event_type":"CUSTOM","entity_type":"E","entity_id":null,"data":null,"changes":null,"user_id":null,"tenant_id":null,` +
			`"timestamp":"2026-01-02T00:00:00Z","duration_ms":null,"seq":null,"actor_type":null,"acting_for":null,"schema_version":null,"cdc_source":null}`,
		`{"id":"3","event_type":"DELETE","entity_type":"E","entity_id":null,"data":{"a":1},"changes":null,"user_id":null,"tenant_id":null,` +
			`"timestamp":"2026-01-02T03:04:00Z","duration_ms":null,"seq":null,"actor_type":null,"acting_for":null,"schema_version":null,"cdc_source":null}`,
	} {
		b, err := json.Marshal(got[i].Event)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(b)); diff != "" {
			t.Errorf("event %d (-want +got):\n%s", i+1, diff)
		}
	}
}

func TestTimesApplicationsWrite(t *testing.T) {
	t.Parallel()
	d := looseLog(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		text string
		want time.Time
	}{
		{"2026-01-02 03:04:05", at},
		{"2026-01-02 03:04:05.25", at.Add(250 * time.Millisecond)},
		{"2026-01-02T03:04:05", at},
		{"2026-01-02T03:04:05Z", at},
		{"2026-01-02T03:04:05.123456789Z", at.Add(123456789)},
		{"2026-01-02 05:04:05+02:00", at},
		{"2026-01-02T05:04:05+0200", at},
		{" 2026-01-02 03:04:05 ", at},
		{at.String(), at},
		{at.In(time.FixedZone("WAT", 3600)).String() + " m=+0.123", at},
		{"2026-01-02 03:04", at.Truncate(time.Minute)},
		{"2026-01-02", at.Truncate(24 * time.Hour)},
	} {
		d.must(t, "DELETE FROM tb_entity_change_log")
		d.must(t, "INSERT INTO tb_entity_change_log (id, created_at) VALUES ('i', ?)", tt.text)
		m := d.all(t)[0]
		if m.Event == nil {
			t.Errorf("%q: %s", tt.text, m.Malformed.Reason)
		} else if !m.Event.Timestamp.Equal(tt.want) {
			t.Errorf("%q is %s, want %s", tt.text, m.Event.Timestamp, tt.want)
		}
	}
}

// A row that a person repaired is read again, also while the checkpoint stands
// on it.
func TestRefetchRepaired(t *testing.T) {
	t.Parallel()
	d := looseLog(t)
	d.must(t, "INSERT INTO tb_entity_change_log (id, object_data) VALUES ('a', '{'), (NULL, '{}')")
	src := d.source()
	all := d.all(t)
	d.must(t, "UPDATE tb_entity_change_log SET id = 'b' WHERE id IS NULL")
	d.must(t, "UPDATE tb_entity_change_log SET object_data = '{}' WHERE id = 'a'")
	for i, id := range []string{"a", "b"} {
		m, err := src.Refetch(t.Context(), all[i].Position)
		if err != nil || m.Event == nil || m.ID() != id {
			t.Errorf("refetch of row %d: %+v, %v; want event %s", i+1, m, err, id)
		}
	}
	s := openStream(t, src, all[1].Position)
	d.must(t, "INSERT INTO tb_entity_change_log (id) VALUES ('c')")
	if m := next(t, s); m.ID() != "c" {
		t.Errorf("after the repaired row came %s", m.ID())
	}
	d.must(t, "DELETE FROM tb_entity_change_log WHERE id = 'a'")
	if _, err := src.Refetch(t.Context(), all[0].Position); !errors.Is(err, observer.ErrNotFound) {
		t.Errorf("refetch of a deleted row: %v", err)
	}
}

func FuzzDecodeRow(f *testing.F) {
	f.Add("id", "E", "INSERT", "2026-01-02T03:04:05Z", "k", `{"a":1}`, "", uint8(0), int64(0))
	f.Add("", "E\xff", "UPDATE", "now", "k", `{"a":`, `{}`, uint8(0xff), int64(-1))
	f.Add("malformed:x", "E", "DELETE", "2026-01-02", "\x00", "null", `[1e999999999]`, uint8(7), int64(1<<62))
	f.Fuzz(func(t *testing.T, id, typ, verb, at, key, data, before string, classes uint8, n int64) {
		m := sqlite.DecodeRow(n, [7]string{id, typ, verb, at, key, data, before}, classes)
		if (m.Event == nil) == (m.Malformed == nil) {
			t.Fatalf("both or neither: %+v", m)
		}
		if m.ID() == "" || m.Position == "" {
			t.Fatalf("no id or position: %+v", m)
		}
		if m.Malformed != nil {
			if !json.Valid(m.Malformed.Raw) || m.Malformed.Reason == "" {
				t.Fatalf("raw %q, reason %q", m.Malformed.Raw, m.Malformed.Reason)
			}
			return
		}
		if _, err := m.Event.Changes(); err != nil {
			t.Fatalf("changes of what was taken for an event: %v", err)
		}
		b, err := json.Marshal(m.Event)
		if err != nil || !bytes.Contains(b, []byte(`"event_type"`)) {
			t.Fatalf("event JSON: %s, %v", b, err)
		}
		if strings.HasPrefix(m.Event.ID, "malformed:") {
			t.Fatalf("event with a reserved id %q", m.Event.ID)
		}
	})
}
